//! Following a batch.

use serde_json::{Value, json};

use crate::support::events::{Event, Events};
use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    a_batch_is_followed_to_its_end
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

/// Submits echoes that sleep for so long; answers where the batch is followed.
async fn submit(client: &Client, sleeps: &[f64]) -> String {
    let jobs: Vec<_> =
        sleeps.iter().map(|seconds| json!({"kind": "echo", "payload": {"sleep_seconds": seconds}})).collect();
    let batch = client.post("/v1/batches", &json!({"jobs": jobs})).await.expect(202).json();
    format!("{}/events", batch["links"]["self"].as_str().expect("a link"))
}

fn ended(event: &Event) -> u64 {
    let of = |state: &str| event.data["counts"][state].as_u64().expect("a count");
    of("succeeded") + of("failed") + of("cancelled")
}

/// No event comes twice, none goes back, and the last one is the end.
fn is_a_whole_story(events: &[Event], total: u64) {
    assert!(events.iter().all(|event| event.name == "batch" && event.data["total"] == total), "{events:#?}");
    assert!(events.is_sorted_by(|a, b| a.id != b.id && ended(a) <= ended(b)), "{events:#?}");
    let last = events.last().expect("an event");
    assert!(ended(last) == total && last.data["finished_at"] != Value::Null, "{last:#?}");
}

async fn a_batch_is_followed_to_its_end(stack: &Stack) {
    let client = stack.client();
    let path = submit(client, &[0.0, 1.0, 2.0]).await;
    let events = Events::open(client, &path, None).await.expect("a stream").all().await;
    is_a_whole_story(&events, 3);
    let last = events.last().map(|event| event.id.as_str());
    assert!(Events::open(client, &path, last).await.is_none(), "nothing will follow");
    assert_eq!(Events::open(client, &path, None).await.expect("a stream").all().await.len(), 1);
}

/// Like a browser: when the stream breaks, on with the other API, behind the last event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_a_batch_goes_on_at_another_api_when_the_first_is_killed() {
    let mut stack = StackBuilder::new(Backend::Services).start().await;
    let (_other_api, other) = stack.start_another_api().await;
    other.ready().await;
    let path = submit(stack.client(), &[0.0, 4.0]).await;
    let mut stream = Events::open(stack.client(), &path, None).await.expect("a stream");
    let mut seen = vec![stream.next().await.expect("an event")];
    while seen.last().is_some_and(|event| ended(event) == 0) {
        seen.push(stream.next().await.expect("an event"));
    }
    stack.api.take().expect("started").kill().await;
    while let Some(event) = stream.next().await {
        seen.push(event);
    }
    assert!(seen.iter().all(|event| ended(event) < 2), "it was cut off: {seen:#?}");
    let last = seen.last().map(|event| event.id.clone());
    seen.extend(Events::open(&other, &path, last.as_deref()).await.expect("more").all().await);
    is_a_whole_story(&seen, 2);
}
