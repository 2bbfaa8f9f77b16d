//! `http.call`, as jobs of a real worker.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use offload_common::job::State;
use serde_json::json;
use tokio::net::TcpListener;

use super::{failure, submit, worker};
use crate::engine::support::Bench;

#[tokio::test]
async fn a_retry_carries_the_same_key() {
    let keys = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = Arc::clone(&keys);
    let answer = move |headers: HeaderMap| async move {
        let mut keys = seen.lock().expect("not poisoned");
        keys.push(headers["idempotency-key"].to_str().expect("text").to_owned());
        if keys.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/orders", post(answer))).await });

    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let payload = json!({"method": "POST", "url": format!("http://{address}/orders"), "json": {"item": 7}});
    let id = submit(&bench, "http.call", payload).await;
    let job = bench.reaches(id, State::Succeeded).await;
    assert_eq!((job.attempt, job.history[0].code.as_str()), (2, "http_status"));
    assert_eq!(*keys.lock().expect("not poisoned"), [id.to_string(), id.to_string()]);
}

#[tokio::test]
async fn a_refused_address_fails_at_once() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let payload = json!({"method": "GET", "url": "http://169.254.169.254/latest/meta-data/"});
    let (code, message) = failure(&bench, "http.call", payload).await;
    assert_eq!(code, "egress_refused");
    assert!(message.contains("169.254.169.254"), "{message}");
}
