//! Stopping: what runs may end, what cannot is handed back, and nothing is lost.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Backend, Stack, StackBuilder};

async fn services() -> Stack {
    StackBuilder::new(Backend::Services).with("OFFLOAD_WORKER__DRAIN_SECONDS", "60").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_worker_ends_what_it_runs_and_takes_nothing_new() {
    let mut stack = services().await;
    let running = stack.client().submit("echo", json!({"sleep_seconds": 3, "value": "to the end"})).await;
    stack.client().until_state(&running, "running").await;
    stack.workers[0].signal(Signal::TERM);
    // Unready, it takes nothing: what comes now waits for the next worker.
    let status = stack.workers[0].exit().await;
    assert!(status.success(), "a clean drain: {status}");
    let job = stack.client().job(&running).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    let later = stack.client().submit("echo", json!({"value": "later"})).await;
    assert_eq!(stack.client().job(&later).await["attempt"], 0);
    stack.start_worker();
    stack.client().succeeded(&later).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlasts_the_grace_is_handed_back_without_an_attempt() {
    let mut stack = StackBuilder::new(Backend::Services).with("OFFLOAD_WORKER__DRAIN_SECONDS", "1").start().await;
    let long = stack.client().submit("echo", json!({"sleep_seconds": 600})).await;
    stack.client().until_state(&long, "running").await;
    stack.workers[0].signal(Signal::TERM);
    stack.workers[0].exit().await;
    let job = stack.client().job(&long).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job:#}");
    stack.start_worker();
    let job = stack.client().until_state(&long, "running").await;
    assert_eq!((&job["attempt"], &job["history"]), (&json!(1), &json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once() {
    let mut stack = services().await;
    let long = stack.client().submit("echo", json!({"sleep_seconds": 600})).await;
    stack.client().until_state(&long, "running").await;
    stack.workers[0].signal(Signal::TERM);
    stack.client().workers(1).await;
    stack.workers[0].signal(Signal::INT);
    let status = stack.workers[0].exit().await;
    assert!(!status.success(), "cut short: {status}");
    stack.start_worker();
    let again = |job: &Value| job["state"] == "running";
    stack.client().until(&long, "runs elsewhere", again).await;
}

/// The API lets requests end: a client that waits gets its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_api_answers_whom_it_keeps_waiting() {
    let mut stack = services().await;
    let id = stack.client().submit("echo", json!({"sleep_seconds": 1.5})).await;
    let client = stack.client().clone();
    let path = format!("/v1/jobs/{id}?wait=30");
    let waiting = tokio::spawn(async move { client.get(&path).await });
    stack.client().until_state(&id, "running").await;
    let mut api = stack.api.take().expect("started");
    api.signal(Signal::TERM);
    assert!(api.exit().await.success());
    let job = waiting.await.expect("joined").expect(200).json();
    assert_eq!(job["id"], json!(id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_backend_keeps_its_jobs_over_a_restart() {
    let mut stack = StackBuilder::new(Backend::Embedded).start().await;
    let later = stack.client().submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 2})).await;
    let done = stack.client().submit("echo", json!({"value": 1})).await;
    let done_before = stack.client().succeeded(&done).await;
    let mut dev = stack.api.take().expect("started");
    dev.signal(Signal::INT);
    assert!(dev.exit().await.success());
    stack.start_api("offload dev, again", &["dev", "--listen", "127.0.0.1:0"]).await;
    stack.client().ready().await;
    assert_eq!(stack.client().job(&done).await, done_before);
    stack.client().succeeded(&later).await;
}

/// A machine that loses power: the embedded backend comes back, and so do the jobs that it ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_backend_survives_a_kill() {
    let mut stack = StackBuilder::new(Backend::Embedded).start().await;
    let running = stack.client().submit("echo", json!({"sleep_seconds": 2})).await;
    stack.client().until_state(&running, "running").await;
    stack.api.take().expect("started").kill().await;
    stack.start_api("offload dev, again", &["dev", "--listen", "127.0.0.1:0"]).await;
    let job = stack.client().succeeded(&running).await;
    assert_eq!(job["attempt"], 1, "the lost attempt was given back: {job:#}");
}
