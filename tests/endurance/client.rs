//! A client of a fleet's API.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::Fleet;

/// Talks to the first api process.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of this fleet.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = fleet.apis()[0].address().expect("it listens");
        Self { base, http: reqwest::Client::builder().no_proxy().build().expect("a client") }
    }

    /// Submits a job; it must be accepted. Answers its id.
    pub(crate) async fn submit(&self, kind: &str, payload: Value) -> String {
        let body = json!({"kind": kind, "payload": payload});
        let answer = self.http.post(format!("{}/v1/jobs", self.base)).json(&body).send().await.expect("answers");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let job: Value = answer.json().await.expect("JSON");
        job["id"].as_str().expect("an id").to_owned()
    }

    /// Submits a batch; it must be accepted.
    pub(crate) async fn submit_batch(&self, batch: Value) {
        let answer = self.http.post(format!("{}/v1/batches", self.base)).json(&batch).send().await.expect("answers");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }

    /// The job as it is now.
    pub(crate) async fn job(&self, id: &str) -> Value {
        let answer = self.http.get(format!("{}/v1/jobs/{id}", self.base)).send().await.expect("answers");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.expect("JSON")
    }

    /// Cancels a job.
    pub(crate) async fn cancel(&self, id: &str) {
        let cancel = self.http.post(format!("{}/v1/jobs/{id}/cancel", self.base)).send().await;
        cancel.expect("answers");
    }

    /// How many workers are live.
    pub(crate) async fn workers(&self) -> usize {
        let answer = self.http.get(format!("{}/v1/workers", self.base)).send().await.expect("answers");
        let workers: Value = answer.json().await.expect("JSON");
        workers["items"].as_array().expect("a list").len()
    }

    /// Uploads a file; answers the status and the body.
    pub(crate) async fn upload(&self, content: Vec<u8>) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}/v1/files", self.base)).header("content-type", "text/csv");
        let answer = request.body(content).send().await.expect("answers");
        (answer.status(), answer.json().await.expect("JSON"))
    }
}
