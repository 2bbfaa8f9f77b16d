//! Streams when something breaks.

use rustix::process::Signal;
use serde_json::json;

use crate::support::events::{Event, Events, story};
use crate::support::{Backend, StackBuilder};

/// Follows a job to its end like a browser: when the stream breaks, on with the other API, behind the last event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_at_another_api_when_the_first_is_killed() {
    let mut stack = StackBuilder::new(Backend::Services).start().await;
    let (_other_api, other) = stack.start_another_api().await;
    other.ready().await;
    let id = stack.client().submit("echo", json!({"sleep_seconds": 4})).await;
    let mut stream = Events::of(stack.client(), &id, None).await.expect("a stream");
    let mut seen: Vec<Event> = Vec::new();
    while seen.last().is_none_or(|event| event.name != "progress") {
        seen.push(stream.next().await.expect("an event"));
    }
    stack.api.take().expect("started").kill().await;
    // What had arrived still counts.
    while let Some(event) = stream.next().await {
        seen.push(event);
    }
    assert!(seen.iter().all(|event| event.data["state"] != "succeeded"), "it was cut off: {seen:#?}");
    let last = seen.last().map(|event| event.id.clone());
    seen.extend(Events::of(&other, &id, last.as_deref()).await.expect("more").all().await);
    assert_eq!(seen, story(&other, &id).await);
    assert_eq!(seen.last().expect("an event").data["state"], "succeeded");
}

/// Nobody nudges any more; the database is the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_without_rabbitmq() {
    let stack = StackBuilder::new(Backend::Services).proxies().start().await;
    stack.services().broker_proxy().cut();
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 1})).await;
    let live = Events::of(client, &id, None).await.expect("a stream").all().await;
    assert_eq!(live, story(client, &id).await);
    assert_eq!(live.last().expect("an event").data["state"], "succeeded");
}

/// The database goes away for a while: the stream waits, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlasts_an_outage_of_the_database() {
    let stack = StackBuilder::new(Backend::Services).proxies().start().await;
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 2})).await;
    let mut stream = Events::of(client, &id, None).await.expect("a stream");
    let mut seen = vec![stream.next().await.expect("an event")];
    stack.services().database_proxy().cut();
    client.get(&format!("/v1/jobs/{id}/events")).await.problem(503);
    stack.services().database_proxy().restore();
    seen.extend(stream.all().await);
    assert_eq!(seen, story(client, &id).await);
    assert_eq!(seen.last().expect("an event").data["state"], "succeeded");
}

/// A drained API does not wait for streams: it ends them, and their clients come back elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_api_ends_its_streams() {
    let mut stack = StackBuilder::new(Backend::Services).with("OFFLOAD_SERVER__DRAIN_SECONDS", "600").start().await;
    let id = stack.client().submit("echo", json!({"sleep_seconds": 600})).await;
    let mut stream = Events::of(stack.client(), &id, None).await.expect("a stream");
    stream.until(|event| event.data["state"] == "running").await.expect("it runs");
    let mut api = stack.api.take().expect("started");
    api.signal(Signal::TERM);
    while stream.next().await.is_some() {}
    assert!(api.exit().await.success());
}

/// A worker dies: the story says so, and goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_run_is_part_of_the_story() {
    let mut stack = StackBuilder::new(Backend::Services).workers(2).start().await;
    let client = stack.client().clone();
    let id = client.submit("echo", json!({"sleep_seconds": 3})).await;
    let mut stream = Events::of(&client, &id, None).await.expect("a stream");
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event: &Event| event.data["state"] != "running") {
        seen.push(stream.next().await.expect("an event"));
    }
    let job = client.job(&id).await;
    let holder = stack.worker_of(&job).await;
    stack.workers[holder].kill().await;
    seen.extend(stream.all().await);
    let states: Vec<_> = seen.iter().filter_map(|event| event.data["state"].as_str()).collect();
    assert_eq!(states, ["queued", "running", "queued", "running", "succeeded"]);
    assert_eq!(seen, story(&client, &id).await);
}
