//! The Idempotency-Key: one key, one job, however often and however fast it is sent.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::stack;
use crate::support::answer::Answer;
use crate::support::{Stack, on_both_backends};

on_both_backends! {
    a_repeated_request_gets_the_same_job
    a_key_names_one_request
    fifty_at_once_make_one_job
}

async fn keyed(stack: &Stack, key: &str, body: &Value) -> Answer {
    let client = stack.client();
    client.send(client.request(Method::POST, "/v1/jobs").header("idempotency-key", key).json(body)).await
}

async fn a_repeated_request_gets_the_same_job(stack: &Stack) {
    let body = json!({"kind": "echo", "payload": {"value": 1}});
    let first = keyed(stack, "order-17", &body).await.expect(202).json();
    stack.client().succeeded(first["id"].as_str().expect("an id")).await;
    for key in ["order-17", "\"order-17\""] {
        let again = keyed(stack, key, &body).await.expect(202).json();
        assert_eq!(again["id"], first["id"], "quoted or bare, before or after its end");
    }
    let other = keyed(stack, "order-18", &body).await.expect(202).json();
    assert_ne!(other["id"], first["id"]);
}

async fn a_key_names_one_request(stack: &Stack) {
    keyed(stack, "k", &json!({"kind": "echo", "payload": {"value": 1}})).await.expect(202);
    let reused = keyed(stack, "k", &json!({"kind": "echo", "payload": {"value": 2}})).await;
    assert_eq!(reused.problem(422)["type"], "/problems/idempotency-key-reused");
    // A request that was refused has not used its key up.
    keyed(stack, "fresh", &json!({"kind": "nothing", "payload": {}})).await.problem(422);
    keyed(stack, "fresh", &json!({"kind": "echo", "payload": {}})).await.expect(202);
    assert_eq!(stack.client().get("/v1/jobs").await.json()["items"].as_array().map(Vec::len), Some(2));
}

async fn fifty_at_once_make_one_job(stack: &Stack) {
    let body = json!({"kind": "echo", "payload": {"value": 1}});
    let answers = join_all((0..50).map(|_| keyed(stack, "rush", &body))).await;
    let ids: BTreeSet<_> = answers.into_iter().map(|answer| answer.expect(202).json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(stack.client().get("/v1/jobs").await.json()["items"].as_array().map(Vec::len), Some(1));
}
