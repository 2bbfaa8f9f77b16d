//! Unique keys: one live job of a kind has one, however many submit it.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::stack;
use crate::support::answer::Answer;
use crate::support::{Client, Stack, on_both_backends};

on_both_backends! {
    sixty_four_at_once_make_one_job
    sixty_four_replacements_at_once_leave_one_job
    a_key_is_free_once_its_job_has_ended
    what_runs_is_not_replaced
    a_batch_shares_the_keys_of_single_jobs
}

/// A job that is not due before the test is over, unless `more` says so.
fn body(key: &str, on_conflict: &str, more: &Value) -> Value {
    let mut body = json!({
        "kind": "echo", "payload": {"value": 1}, "unique_key": key, "on_conflict": on_conflict, "delay_seconds": 3600,
    });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

async fn submit(client: &Client, key: &str, on_conflict: &str, more: &Value) -> Answer {
    client.post("/v1/jobs", &body(key, on_conflict, more)).await
}

fn now() -> Value {
    json!({"delay_seconds": null})
}

fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

async fn sixty_four_at_once_make_one_job(stack: &Stack) {
    let (client, later) = (stack.client(), json!({}));
    let answers = join_all((0..64).map(|_| submit(client, "rush", "return", &later))).await;
    let ids: BTreeSet<_> = answers.into_iter().map(|answer| id(&answer.expect(202))).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let refused = join_all((0..64).map(|_| submit(client, "rush", "refuse", &later))).await;
    for answer in refused {
        let problem = answer.problem(409);
        assert_eq!(problem["type"], "/problems/unique-key-held");
        assert_eq!(problem["job_id"].as_str(), ids.first().map(String::as_str));
    }
    assert_eq!(client.get("/v1/jobs").await.json()["items"].as_array().map(Vec::len), Some(1));
}

async fn sixty_four_replacements_at_once_leave_one_job(stack: &Stack) {
    let (client, later) = (stack.client(), json!({}));
    let answers = join_all((0..64).map(|_| submit(client, "rush", "replace", &later))).await;
    let ids: BTreeSet<_> = answers.into_iter().map(|answer| id(&answer.expect(202))).collect();
    assert_eq!(ids.len(), 64);
    let jobs = client.get("/v1/jobs?limit=100").await.json();
    let states: Vec<_> = jobs["items"].as_array().expect("a list").iter().map(|job| &job["state"]).collect();
    assert_eq!(states.iter().filter(|state| **state == "scheduled").count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == "cancelled").count(), 63, "{states:?}");
}

async fn a_key_is_free_once_its_job_has_ended(stack: &Stack) {
    let client = stack.client();
    for _ in 0..3 {
        let answer = submit(client, "again", "refuse", &now()).await.expect(202);
        assert_eq!(answer.json()["unique_key"], "again");
        client.succeeded(&id(&answer)).await;
    }
    // Run again, it is the same job for whoever comes.
    let first = id(&submit(client, "again", "refuse", &now()).await.expect(202));
    client.succeeded(&first).await;
    let successor = id(&submit(client, "again", "refuse", &json!({})).await.expect(202));
    let problem = client.post(&format!("/v1/jobs/{first}/retry"), &json!({})).await.problem(409);
    assert_eq!(problem["job_id"], json!(successor));
    client.post(&format!("/v1/jobs/{successor}/cancel"), &json!({})).await.expect(202);
    let again = client.post(&format!("/v1/jobs/{first}/retry"), &json!({})).await.expect(202).json();
    assert_eq!(again["unique_key"], "again");
}

async fn what_runs_is_not_replaced(stack: &Stack) {
    let client = stack.client();
    let long = json!({"payload": {"sleep_seconds": 3600}, "delay_seconds": null});
    let running = id(&submit(client, "k", "return", &long).await.expect(202));
    client.until_state(&running, "running").await;
    let problem = submit(client, "k", "replace", &json!({})).await.problem(409);
    assert_eq!(problem["job_id"], json!(running));
    let matched = submit(client, "k", "return", &json!({})).await.expect(202);
    assert_eq!((id(&matched), matched.header("unique-key-matched")), (running.clone(), "true"));
    client.post(&format!("/v1/jobs/{running}/cancel"), &json!({})).await.expect(202);
    client.until_state(&running, "cancelled").await;
    let waiting = id(&submit(client, "k", "replace", &json!({})).await.expect(202));
    let next = submit(client, "k", "replace", &json!({})).await.expect(202);
    assert_eq!(next.header("unique-key-replaced"), waiting);
    assert_eq!(client.job(&waiting).await["state"], "cancelled");
}

async fn a_batch_shares_the_keys_of_single_jobs(stack: &Stack) {
    let client = stack.client();
    let single = id(&submit(client, "single", "return", &json!({})).await.expect(202));
    let jobs =
        [body("single", "return", &json!({})), body("new", "return", &json!({})), body("new", "return", &json!({}))];
    let batch = client.post("/v1/batches", &json!({"jobs": jobs})).await.expect(202).json();
    assert_eq!((&batch["total"], &batch["matched"]), (&json!(1), &json!(2)));
    let problem =
        client.post("/v1/batches", &json!({"jobs": [body("single", "refuse", &json!({}))]})).await.problem(409);
    assert_eq!((&problem["type"], &problem["job_id"]), (&json!("/problems/unique-key-held"), &json!(single)));
    let whole =
        client.post("/v1/batches", &json!({"jobs": [body("new", "return", &json!({}))]})).await.expect(202).json();
    assert_eq!((&whole["total"], whole["finished_at"].is_null()), (&json!(0), false));
}
