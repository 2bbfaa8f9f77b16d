//! Faults of the program itself: a part of it panics.

use serde_json::json;

use crate::support::{Backend, Process, StackBuilder};

const FAULT: &str = "OFFLOAD_FAILPOINT";

async fn ended_with_a_word(process: &mut Process) {
    let status = process.exit().await;
    assert_eq!(status.code(), Some(1), "so that a supervisor starts it again");
    process.wrote("the starter of the worker died").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_has_lost_a_part_drains_and_ends_with_an_error() {
    let mut stack = StackBuilder::new(Backend::Services).with(FAULT, "deliver.before:panic:1").start().await;
    let id = stack.client().submit("echo", json!({"value": 1})).await;
    ended_with_a_word(&mut stack.workers[0]).await;
    let job = stack.client().job(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job:#}");
    stack.without(FAULT);
    stack.start_worker();
    stack.client().succeeded(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_backend_ends_with_its_worker() {
    let mut stack = StackBuilder::new(Backend::Embedded).with(FAULT, "deliver.before:panic:1").start().await;
    let id = stack.client().submit("echo", json!({"value": 1})).await;
    ended_with_a_word(&mut stack.api.take().expect("started")).await;
    stack.without(FAULT);
    stack.start_api("offload dev, again", &["dev", "--listen", "127.0.0.1:0"]).await;
    stack.client().succeeded(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_whose_publish_panics_goes_on_publishing() {
    let stack = StackBuilder::new(Backend::Services)
        .with(FAULT, "publish.before:panic:1")
        // Nothing is stolen here: what runs was published.
        .with("OFFLOAD_WORKER__STEAL_AFTER_SECONDS", "3600")
        .start()
        .await;
    let unpublished = stack.client().submit("echo", json!({"value": 1})).await;
    stack.api.as_ref().expect("started").wrote("the fail point publish.before").await;
    let published = stack.client().submit("echo", json!({"value": 2})).await;
    stack.client().succeeded(&published).await;
    assert_eq!(stack.client().job(&unpublished).await["state"], "queued");
}
