//! A client as a frontend has one: HTTP and JSON, nothing else.

use std::sync::Once;

use offload_common::testing::eventually;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::answer::Answer;

/// Talks to one server.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the server at this address.
    pub(crate) fn new(base: String) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| rustls::crypto::ring::default_provider().install_default().expect("installed once"));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { base, http }
    }

    /// Where the server is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A request to a path, to be completed and sent.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request; the server must answer something.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.expect("the server answers")).await
    }

    /// Reads.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a job; it must be accepted. Answers its id.
    pub(crate) async fn submit(&self, kind: &str, payload: Value) -> String {
        self.submit_with(json!({"kind": kind, "payload": payload})).await
    }

    /// The same, with more than kind and payload.
    pub(crate) async fn submit_with(&self, body: Value) -> String {
        let job = self.post("/v1/jobs", &body).await.expect(202).json();
        job["id"].as_str().expect("an id").to_owned()
    }

    /// The job as it is now.
    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.expect(200).json()
    }

    /// Waits until `wanted` holds of the job.
    pub(crate) async fn until(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("job {id} {what}"), async || {
            // The server may be away for a moment: that is what some tests are about.
            let response = self.request(Method::GET, &format!("/v1/jobs/{id}")).send().await.ok()?;
            let answer = Answer::read(response).await;
            (answer.status == 200).then(|| answer.json()).filter(|job| wanted(job))
        })
        .await
    }

    /// Waits until the job is in this state.
    pub(crate) async fn until_state(&self, id: &str, state: &str) -> Value {
        self.until(id, &format!("is {state}"), |job| job["state"] == state).await
    }

    /// Waits until the job is final, whatever it comes to.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        let is_final = |job: &Value| ["succeeded", "failed", "cancelled"].iter().any(|state| job["state"] == **state);
        self.until(id, "is final", is_final).await
    }

    /// Waits until the job is final; it must have succeeded.
    pub(crate) async fn succeeded(&self, id: &str) -> Value {
        let job = self.finished(id).await;
        assert_eq!(job["state"], "succeeded", "{job:#}");
        job
    }

    /// Waits until the job is final; it must have failed with this code.
    pub(crate) async fn failed(&self, id: &str, code: &str) -> Value {
        let job = self.finished(id).await;
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!(code)), "{job:#}");
        job
    }

    /// Uploads a file, and answers its id.
    pub(crate) async fn upload(&self, content_type: &str, content: impl Into<Vec<u8>>) -> String {
        let request = self.request(Method::POST, "/v1/files").header("content-type", content_type).body(content.into());
        let file = self.send(request).await.expect(201).json();
        file["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until the server is ready.
    pub(crate) async fn ready(&self) {
        eventually("the server is ready", async || {
            let response = self.request(Method::GET, "/readyz").send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// Waits until so many workers are live.
    pub(crate) async fn workers(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} workers are live"), async || {
            let response = self.request(Method::GET, "/v1/workers").send().await.ok()?;
            let answer = Answer::read(response).await;
            let workers = (answer.status == 200).then(|| answer.json())?["items"].as_array().cloned()?;
            (workers.len() == count).then_some(workers)
        })
        .await
    }

    /// Waits until the server has accepted something.
    pub(crate) async fn until_one_is_accepted(&self) {
        eventually("a job is accepted", async || {
            let list = self.get("/v1/jobs?limit=1").await.expect(200).json();
            list["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(())
        })
        .await;
    }
}
