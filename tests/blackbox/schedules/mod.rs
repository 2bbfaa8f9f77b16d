//! Schedules: what fires, and that each fire happens once, whatever is killed.

mod faults;
mod firing;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use offload_common::testing::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Backend, Client, Stack, StackBuilder};

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

/// Makes a schedule of `echo` jobs; answers its path.
async fn make(client: &Client, name: &str, more: Value) -> String {
    let mut body = json!({"name": name, "job": {"kind": "echo", "payload": {"value": "{{fire.unix}}"}}});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let made = client.post("/v1/schedules", &body).await.expect(201).json();
    made["links"]["self"].as_str().expect("a path").to_owned()
}

/// What became of its fires, in order.
async fn fires(client: &Client, path: &str) -> Vec<Value> {
    let list = client.get(&format!("{path}/fires?limit=1000")).await.expect(200).json();
    list["items"].as_array().expect("a list").iter().rev().cloned().collect()
}

/// Waits until so many of its fires have this outcome; answers all that there are.
async fn until(client: &Client, path: &str, outcome: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} fires of {path} are {outcome}"), async || {
        let fires = fires(client, path).await;
        (fires.iter().filter(|fire| fire["outcome"] == outcome).count() >= count).then_some(fires)
    })
    .await
}

async fn pause(client: &Client, path: &str) {
    client.post(&format!("{path}/pause"), &json!({})).await.expect(200);
}

/// Waits until the batch of a fire is finished; answers it.
async fn finished(client: &Client, fire: &Value) -> Value {
    let id = fire["batch_id"].as_str().expect("a batch");
    eventually("the batch is finished", async || {
        let batch = client.get(&format!("/v1/batches/{id}")).await.expect(200).json();
        batch["finished_at"].is_string().then_some(batch)
    })
    .await
}

fn at(value: &Value) -> DateTime<Utc> {
    value.as_str().expect("a time").parse().expect("a time")
}

/// The jobs that it submitted: one for each fire that says so, and none beside. It is not to fire meanwhile.
async fn jobs(client: &Client, path: &str) -> Vec<Value> {
    let id = path.rsplit('/').next().expect("an id");
    let list = client.get(&format!("/v1/jobs?schedule_id={id}&limit=1000")).await.expect(200).json();
    let jobs = list["items"].as_array().expect("a list").clone();
    let pairs = |list: &[Value], id: &str| -> BTreeSet<(String, String)> {
        list.iter().map(|one| (one["fire_at"].to_string(), one[id].to_string())).collect()
    };
    let submitted: Vec<Value> =
        fires(client, path).await.into_iter().filter(|fire| fire["job_id"].is_string()).collect();
    assert_eq!(pairs(&jobs, "id"), pairs(&submitted, "job_id"));
    assert_eq!(jobs.len(), submitted.len(), "none is there twice");
    jobs
}

async fn send(client: &Client, method: Method, path: &str, etag: &str, body: &Value) -> crate::support::answer::Answer {
    client.send(client.request(method, path).header("if-match", etag).json(body)).await
}
