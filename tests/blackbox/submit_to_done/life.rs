//! The life of one job, as its client follows it.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::stack;
use crate::support::{Stack, on_both_backends};

on_both_backends! {
    a_job_is_accepted_and_told_apart
    a_client_may_wait_in_the_submission
    a_client_may_wait_for_the_end
    a_delayed_job_runs_when_it_is_due
    a_failing_job_is_tried_again
    the_last_attempt_ends_it
    a_panic_is_a_failed_attempt
    a_job_that_takes_too_long_is_stopped
    progress_and_logs_are_seen_while_it_runs
    a_finished_job_can_be_run_again
}

fn time(job: &Value, member: &str) -> DateTime<Utc> {
    let text = job[member].as_str().unwrap_or_else(|| panic!("{member}: {job:#}"));
    assert!(text.len() == 27 && text.ends_with('Z'), "RFC 3339, UTC, microseconds: {text}");
    text.parse().expect("a time")
}

async fn a_job_is_accepted_and_told_apart(stack: &Stack) {
    let client = stack.client();
    let body = json!({
        "kind": "echo", "payload": {"value": 1}, "queue": "default", "priority": "high", "max_attempts": 3,
        "timeout_seconds": 30, "metadata": {"user": 7}, "tags": ["a", "b"],
    });
    let answer = client.post("/v1/jobs", &body).await.expect(202);
    let job = answer.json();
    let id = job["id"].as_str().expect("an id");
    assert_eq!(answer.header("location"), format!("/v1/jobs/{id}"));
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    for (member, expected) in body.as_object().expect("an object") {
        assert_eq!(&job[member], expected, "{member}");
    }
    let done = client.succeeded(id).await;
    assert_eq!((&done["attempt"], &done["error"], &done["retry_of"]), (&json!(1), &Value::Null, &Value::Null));
    let (created, started, finished) =
        (time(&done, "created_at"), time(&done, "started_at"), time(&done, "finished_at"));
    assert!(created <= started && started <= finished && time(&done, "run_at") >= created);
    assert_eq!(done["links"]["self"], format!("/v1/jobs/{id}"));
    let first = client.get(&format!("/v1/jobs/{id}")).await.expect(200);
    let again = client.request(reqwest::Method::GET, &format!("/v1/jobs/{id}"));
    let again = client.send(again.header("if-none-match", first.header("etag"))).await.expect(304);
    assert!(again.body.is_empty());
}

async fn a_client_may_wait_in_the_submission(stack: &Stack) {
    let client = stack.client();
    let body = json!({"kind": "echo", "payload": {"value": 1}});
    let request = client.request(reqwest::Method::POST, "/v1/jobs").header("prefer", "wait=20").json(&body);
    let answer = client.send(request).await.expect(200);
    assert_eq!(answer.header("preference-applied"), "wait=20");
    assert_eq!(answer.json()["state"], "succeeded");
    // What takes longer than the client waits is answered as it is.
    let body = json!({"kind": "echo", "payload": {"sleep_seconds": 60}});
    let request = client.request(reqwest::Method::POST, "/v1/jobs").header("prefer", "wait=1").json(&body);
    let job = client.send(request).await.expect(202).json();
    assert_ne!(job["state"], "succeeded");
}

async fn a_client_may_wait_for_the_end(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 0.3})).await;
    let job = client.get(&format!("/v1/jobs/{id}?wait=20")).await.expect(200).json();
    assert_eq!(job["state"], "succeeded", "the answer came with the end");
}

async fn a_delayed_job_runs_when_it_is_due(stack: &Stack) {
    let client = stack.client();
    let id = client.submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 1.5})).await;
    assert_eq!(client.job(&id).await["state"], "scheduled");
    let job = client.succeeded(&id).await;
    assert!(time(&job, "started_at") >= time(&job, "run_at"), "not before its time");
}

async fn a_failing_job_is_tried_again(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"fail_attempts": 1, "value": "at last"})).await;
    let waiting = client.until_state(&id, "scheduled").await;
    assert_eq!((&waiting["attempt"], &waiting["error"]["code"]), (&json!(1), &json!("asked_to_fail")));
    let job = client.succeeded(&id).await;
    assert_eq!((&job["attempt"], &job["result"]["value"]), (&json!(2), &json!("at last")));
    let [failed] = &job["history"].as_array().expect("a list")[..] else { panic!("one failed attempt: {job:#}") };
    assert_eq!((&failed["attempt"], &failed["code"]), (&json!(1), &json!("asked_to_fail")));
}

async fn the_last_attempt_ends_it(stack: &Stack) {
    let client = stack.client();
    let body = json!({"kind": "echo", "payload": {"fail_attempts": 100}, "max_attempts": 2});
    let id = client.submit_with(body).await;
    let job = client.failed(&id, "asked_to_fail").await;
    assert_eq!((&job["attempt"], job["history"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let problem = client.get(&format!("/v1/jobs/{id}/result")).await.problem(409);
    assert_eq!(problem["error"]["code"], "asked_to_fail", "no result, and why");
}

async fn a_panic_is_a_failed_attempt(stack: &Stack) {
    let client = stack.client();
    let body = json!({"kind": "echo", "payload": {"panic": true}, "max_attempts": 1});
    let id = client.submit_with(body).await;
    client.failed(&id, "panic").await;
    let id = client.submit("echo", json!({"value": "the worker lives"})).await;
    client.succeeded(&id).await;
}

async fn a_job_that_takes_too_long_is_stopped(stack: &Stack) {
    let client = stack.client();
    for payload in [json!({"sleep_seconds": 600}), json!({"cpu_seconds": 600})] {
        let body = json!({"kind": "echo", "payload": payload, "max_attempts": 1, "timeout_seconds": 1});
        let id = client.submit_with(body).await;
        client.failed(&id, "timeout").await;
    }
}

async fn progress_and_logs_are_seen_while_it_runs(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 20})).await;
    let job = client.until(&id, "reports progress", |job| job["progress"]["fraction"].as_f64() > Some(0.0)).await;
    assert_eq!(job["state"], "running");
    assert!(job["progress"]["fraction"].as_f64() < Some(1.0));
    let id = client.submit("test.sleeper", json!({})).await;
    client.until_state(&id, "running").await;
    offload_common::testing::eventually("the program's line is in the log", async || {
        let logs = client.get(&format!("/v1/jobs/{id}/logs")).await.expect(200).json();
        logs["items"].as_array().is_some_and(|lines| !lines.is_empty()).then_some(())
    })
    .await;
}

async fn a_finished_job_can_be_run_again(stack: &Stack) {
    let client = stack.client();
    let body = json!({"kind": "echo", "payload": {"value": 7}, "tags": ["mine"], "metadata": {"a": 1}});
    let id = client.submit_with(body).await;
    let first = client.succeeded(&id).await;
    let answer = client.post(&format!("/v1/jobs/{id}/retry"), &json!({})).await.expect(202);
    let again = answer.json();
    let second = again["id"].as_str().expect("an id");
    assert_ne!(second, id);
    assert_eq!(answer.header("location"), format!("/v1/jobs/{second}"));
    assert_eq!(
        (&again["retry_of"], &again["tags"], &again["metadata"]),
        (&json!(id), &json!(["mine"]), &json!({"a": 1}))
    );
    assert_eq!(client.succeeded(second).await["result"]["value"], 7);
    assert_eq!(client.job(&id).await, first, "the old one stays as it was");
    let running = client.submit("echo", json!({"sleep_seconds": 600})).await;
    client.post(&format!("/v1/jobs/{running}/retry"), &json!({})).await.problem(409);
}
