//! Cancelling, in every state.

use offload_common::testing::eventually;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};

use super::stack;
use crate::support::{Stack, on_both_backends};

on_both_backends! {
    a_scheduled_job_is_cancelled_at_once
    a_queued_job_is_cancelled_at_once
    a_running_job_is_stopped
    a_cancelled_program_is_killed_with_its_children
    a_finished_job_is_past_cancelling
}

async fn cancel(stack: &Stack, id: &str) -> Value {
    stack.client().post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.expect(202).json()
}

async fn a_scheduled_job_is_cancelled_at_once(stack: &Stack) {
    let id = stack.client().submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 3600})).await;
    assert_eq!(cancel(stack, &id).await["state"], "cancelled");
    assert_eq!(cancel(stack, &id).await["state"], "cancelled", "once more is no error");
}

/// Both slots are taken, so the third job waits.
async fn a_queued_job_is_cancelled_at_once(stack: &Stack) {
    let client = stack.client();
    for _ in 0..2 {
        let holder = client.submit("echo", json!({"sleep_seconds": 600})).await;
        client.until_state(&holder, "running").await;
    }
    let waiting = client.submit("echo", json!({"value": 1})).await;
    let job = cancel(stack, &waiting).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("cancelled"), &json!(0)));
}

async fn a_running_job_is_stopped(stack: &Stack) {
    let client = stack.client();
    for payload in [json!({"sleep_seconds": 600}), json!({"cpu_seconds": 600})] {
        let id = client.submit("echo", payload).await;
        client.until_state(&id, "running").await;
        cancel(stack, &id).await;
        let job = client.finished(&id).await;
        assert_eq!((&job["state"], &job["attempt"], &job["result"]), (&json!("cancelled"), &json!(1), &Value::Null));
    }
}

async fn a_cancelled_program_is_killed_with_its_children(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("test.sleeper", json!({})).await;
    let child = eventually("the program tells its child's id", async || {
        let logs = client.get(&format!("/v1/jobs/{id}/logs")).await.expect(200).json();
        let line = logs["items"][0]["message"].as_str()?.to_owned();
        line.strip_prefix("child ")?.trim().parse().ok().and_then(Pid::from_raw)
    })
    .await;
    assert!(test_kill_process(child).is_ok(), "it sleeps");
    cancel(stack, &id).await;
    assert_eq!(client.finished(&id).await["state"], "cancelled");
    eventually("its child is gone", async || test_kill_process(child).is_err().then_some(())).await;
}

async fn a_finished_job_is_past_cancelling(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"value": 1})).await;
    let done = client.succeeded(&id).await;
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.problem(409);
    assert_eq!(client.job(&id).await, done);
}
