//! `echo`, as jobs of a real worker.

use offload_common::job::State;
use serde_json::json;

use super::{result, submit, worker};
use crate::engine::support::Bench;

#[tokio::test]
async fn it_answers_after_what_was_asked_for() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let value = json!({"deep": [1, {"é": null}]});
    let payload = json!({"value": value, "sleep_seconds": 0.01, "cpu_seconds": 0.01});
    assert_eq!(result(&bench, "echo", payload).await, json!({"value": value}));
}

#[tokio::test]
async fn it_fails_as_often_as_asked_to() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let id = submit(&bench, "echo", json!({"value": 7, "fail_attempts": 2})).await;
    let job = bench.reaches(id, State::Succeeded).await;
    assert_eq!((job.attempt, job.history.len(), job.history[1].code.as_str()), (3, 2, "asked_to_fail"));
}
