//! An honest client: what it got no answer to, it asks again, under the same key, of whichever API it likes.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::super::journal::Journal;
use super::{Attempt, Outcome};
use crate::support::{Node, pass};

/// Longer than an API may take in any case.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause after a request that nobody answered.
const NOBODY: Duration = Duration::from_millis(100);

/// Talks to the APIs.
pub(super) struct Client {
    http: reqwest::Client,
    apis: Vec<Arc<Node>>,
    journal: Arc<Journal>,
}

/// What an API said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    retry_after: Option<u64>,
}

impl Client {
    pub(super) fn new(apis: Vec<Arc<Node>>, journal: Arc<Journal>) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        Self { http, apis, journal }
    }

    /// Asks one API once. `None` where it does not answer.
    pub(super) async fn ask(&self, api: usize, method: Method, path: &str, ask: Ask<'_>) -> Option<Answer> {
        let address = self.apis[api].address()?;
        let mut request = self.http.request(method, format!("{address}{path}"));
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        request = match ask.body {
            Some(Body::Json(body)) => request.json(body),
            Some(Body::Lines(lines)) => request.header("content-type", "application/x-ndjson").body(lines.to_owned()),
            None => request,
        };
        let answer = request.send().await.ok()?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.ok()?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).ok()? };
        let retry_after = headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Some(Answer { status, body, retry_after })
    }

    /// Submits a job or a batch until it is accepted; answers its id. Starts with this API, and has every attempt noted.
    pub(super) async fn submit(&self, mut api: usize, path: &str, ask: Ask<'_>, noted: impl Fn(Attempt)) -> String {
        loop {
            let at = self.journal.timeline.now();
            let answer = self.ask(api, Method::POST, path, ask).await;
            let took = self.journal.timeline.now() - at;
            let note = |outcome| noted(Attempt { api, at, took, outcome });
            let pause = match answer {
                Some(Answer { status: StatusCode::ACCEPTED, body, .. }) => {
                    note(Outcome::Accepted);
                    return body["id"].as_str().expect("an accepted job has an id").to_owned();
                }
                // The same batch, sent before, is being written.
                Some(Answer { status: StatusCode::CONFLICT, retry_after: Some(seconds), .. }) => {
                    Duration::from_secs(seconds)
                }
                Some(Answer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: Some(seconds), .. }) => {
                    note(Outcome::Unavailable);
                    Duration::from_secs(seconds)
                }
                Some(Answer { status, body, .. }) => {
                    note(Outcome::Wrong);
                    self.journal.finding(format!("api {} answered {status} to a submission: {body}", api + 1));
                    NOBODY
                }
                None => {
                    note(Outcome::NoAnswer);
                    NOBODY
                }
            };
            pass(pause).await;
            api = (api + 1) % self.apis.len();
        }
    }

    /// Sends a request until some API has an answer to it that says something of the job.
    pub(super) async fn until_answered(&self, mut api: usize, method: Method, path: &str, ask: Ask<'_>) -> Answer {
        loop {
            let answer = self.ask(api, method.clone(), path, ask).await;
            if let Some(answer) = answer.filter(|answer| answer.status != StatusCode::SERVICE_UNAVAILABLE) {
                return answer;
            }
            pass(NOBODY * 5).await;
            api = (api + 1) % self.apis.len();
        }
    }
}

/// What goes with a request.
#[derive(Clone, Copy, Default)]
pub(super) struct Ask<'a> {
    pub(super) key: Option<&'a str>,
    pub(super) body: Option<Body<'a>>,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Body<'a> {
    Json(&'a Value),
    /// A JSON document a line.
    Lines(&'a str),
}
