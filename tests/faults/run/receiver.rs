//! Where callbacks go: it keeps what comes, and answers that it arrived.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What signs every callback of a run.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came, by the message's id.
type Arrived = HashMap<String, Vec<String>>;

/// A receiver that is always there.
pub(crate) struct Receiver {
    address: SocketAddr,
    arrived: Arc<Mutex<Arrived>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens.
    pub(crate) async fn start() -> Self {
        let arrived = Arc::<Mutex<Arrived>>::default();
        let keep = arrived.clone();
        let answer = move |headers: HeaderMap, body: String| async move {
            let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
            keep.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().push(body);
            StatusCode::NO_CONTENT
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let serve = axum::serve(listener, Router::new().route("/", post(answer)));
        let task = tokio::spawn(async move { serve.await.expect("it does not end") });
        Self { address, arrived, task }
    }

    /// What a job or a batch says that is to be told of here.
    pub(crate) fn callback(&self) -> Value {
        json!({"url": format!("http://{}/", self.address)})
    }

    /// What came so far of the end of a job or a batch.
    pub(crate) fn told_of(&self, subject: &str) -> Vec<String> {
        let id = format!("msg_{}", subject.replace('-', ""));
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().unwrap_or_default()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}
