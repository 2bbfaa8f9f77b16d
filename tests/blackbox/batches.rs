//! Batches, from outside: taken in whole, counted exactly, finished once, whoever dies.

use std::collections::BTreeSet;

use offload_common::testing::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    a_batch_runs_and_is_followed_once
    a_repeated_request_gets_the_same_batch
    what_failed_runs_again
    a_batch_is_cancelled_as_a_whole
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

/// Submits a batch with a job a line.
pub(super) async fn lines(client: &Client, key: Option<&str>, body: String) -> Answer {
    let mut request =
        client.request(Method::POST, "/v1/batches").header("content-type", "application/x-ndjson").body(body);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    client.send(request).await
}

fn echo(count: usize, more: &Value) -> String {
    let mut payload = json!({});
    payload.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    (0..count)
        .map(|n| {
            payload["value"] = json!(n);
            json!({"kind": "echo", "payload": payload}).to_string() + "\n"
        })
        .collect()
}

/// Waits until the batch is finished.
pub(super) async fn finished(client: &Client, batch: &Value) -> Value {
    let path = batch["links"]["self"].as_str().expect("a link");
    eventually("the batch is finished", async || {
        let response = client.request(Method::GET, path).send().await.ok()?;
        let answer = Answer::read(response).await;
        (answer.status == 200).then(|| answer.json()).filter(|batch| !batch["finished_at"].is_null())
    })
    .await
}

async fn a_batch_runs_and_is_followed_once(stack: &Stack) {
    let client = stack.client();
    let header = json!({"batch": {
        "follow_up": {"kind": "echo", "payload": {"value": "after"}, "tags": ["follow-up"]}, "metadata": {"night": 1},
    }});
    let answer = lines(client, None, format!("{header}\n{}", echo(300, &json!({})))).await.expect(202);
    let batch = answer.json();
    assert_eq!((&batch["total"], &batch["metadata"]), (&json!(300), &json!({"night": 1})));
    let over = finished(client, &batch).await;
    assert_eq!((&over["counts"]["succeeded"], &over["progress"]["fraction"]), (&json!(300), &json!(1.0)));
    let follow_up = client.succeeded(over["follow_up_job"].as_str().expect("an id")).await;
    assert_eq!(follow_up["result"]["value"], "after");
    let followed = client.get("/v1/jobs?tag=follow-up").await.json();
    assert_eq!(followed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(stack.verify(&verify(stack)).await.0, Some(0));
}

/// What `offload verify` is told of where the data is.
pub(super) fn verify(stack: &Stack) -> Vec<&str> {
    if stack.services.is_some() { vec![] } else { vec!["--data", "data"] }
}

async fn a_repeated_request_gets_the_same_batch(stack: &Stack) {
    let client = stack.client();
    let body = echo(50, &json!({}));
    let answers = futures_util::future::join_all((0..5).map(|_| lines(client, Some("night"), body.clone()))).await;
    let mut ids = BTreeSet::new();
    for answer in answers {
        // One that meets another that is being written is told so.
        if answer.status != 409 {
            ids.insert(answer.expect(202).json()["id"].to_string());
        }
    }
    ids.insert(lines(client, Some("night"), body).await.expect(202).json()["id"].to_string());
    assert_eq!(ids.len(), 1, "{ids:?}");
    lines(client, Some("night"), echo(51, &json!({}))).await.problem(422);
    let batches = client.get("/v1/batches").await.json();
    assert_eq!((&batches["items"][0]["total"], batches["items"].as_array().map(Vec::len)), (&json!(50), Some(1)));
}

async fn what_failed_runs_again(stack: &Stack) {
    let client = stack.client();
    let body = json!({"jobs": [
        {"kind": "echo", "payload": {"value": 1}}, {"kind": "test.broken", "payload": {}, "max_attempts": 1},
    ]});
    let batch = client.post("/v1/batches", &body).await.expect(202).json();
    let over = finished(client, &batch).await;
    assert_eq!((&over["counts"]["succeeded"], &over["counts"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(over["errors"].as_array().map(Vec::len), Some(1));
    let own = batch["links"]["self"].as_str().expect("a link");
    let again = client.post(&format!("{own}/retry"), &json!({})).await.expect(202).json();
    assert_eq!(again["total"], 3);
    eventually("the repeated job has failed, too", async || {
        (client.get(own).await.json()["counts"]["failed"] == 2).then_some(())
    })
    .await;
    assert_eq!(client.get(own).await.json()["finished_at"], over["finished_at"]);
}

async fn a_batch_is_cancelled_as_a_whole(stack: &Stack) {
    let client = stack.client();
    let body = format!(
        "{}{}",
        echo(2, &json!({"sleep_seconds": 600})),
        echo(700, &json!({})).replace("\"payload\"", "\"delay_seconds\":600,\"payload\"")
    );
    let batch = lines(client, None, body).await.expect(202).json();
    let own = batch["links"]["self"].as_str().expect("a link");
    eventually("two run", async || (client.get(own).await.json()["counts"]["running"] == 2).then_some(())).await;
    client.post(&format!("{own}/cancel"), &json!({})).await.expect(202);
    let over = finished(client, &batch).await;
    assert_eq!((&over["counts"]["cancelled"], &over["total"]), (&json!(702), &json!(702)));
}

/// Workers are killed under a batch: each end is counted once, and the follow-up runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_do_not_make_a_batch_count_wrong() {
    let mut stack =
        StackBuilder::new(Backend::Services).workers(2).short_lease().with("OFFLOAD_WORKER__SLOTS", "8").start().await;
    let header = json!({"batch": {"follow_up": {"kind": "echo", "payload": {}, "tags": ["follow-up"]}}});
    let body = format!("{header}\n{}", echo(400, &json!({"sleep_seconds": 0.2})));
    let batch = lines(stack.client(), None, body).await.expect(202).json();
    let own = batch["links"]["self"].as_str().expect("a link").to_owned();
    for (worker, ended) in [(0, 40), (1, 120)] {
        let client = stack.client().clone();
        eventually("some have ended", async || {
            let batch = client.get(&own).await.json();
            (batch["counts"]["succeeded"].as_u64()? >= ended).then_some(())
        })
        .await;
        stack.workers[worker].kill().await;
        stack.start_worker();
    }
    let over = finished(stack.client(), &batch).await;
    assert_eq!((&over["counts"]["succeeded"], &over["total"]), (&json!(400), &json!(400)), "{over:#}");
    stack.client().succeeded(over["follow_up_job"].as_str().expect("an id")).await;
    let followed = stack.client().get("/v1/jobs?tag=follow-up").await.json();
    assert_eq!(followed["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(stack.verify(&[]).await.0, Some(0));
}
