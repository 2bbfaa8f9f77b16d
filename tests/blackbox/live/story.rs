//! What a stream tells, live and again.

use serde_json::{Value, json};

use crate::support::events::{Event, Events, story};
use crate::support::{Backend, Stack, StackBuilder, on_both_backends};

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

on_both_backends! {
    a_whole_life_is_told_as_it_happens
    a_short_job_tells_of_its_run
    a_stream_is_resumed_behind_any_event
    a_final_job_that_was_seen_to_its_end_is_over
}

fn states(events: &[Event]) -> Vec<(&str, u64)> {
    let states = events.iter().filter(|event| event.name == "state");
    states
        .map(|event| (event.data["state"].as_str().expect("a state"), event.data["attempt"].as_u64().unwrap()))
        .collect()
}

/// Progresses, fails, is tried again, progresses and succeeds; followed from before it began.
async fn a_whole_life_is_told_as_it_happens(stack: &Stack) {
    let client = stack.client();
    let body = json!({"kind": "echo", "payload": {"sleep_seconds": 1, "fail_attempts": 1}, "delay_seconds": 1});
    let id = client.submit_with(body).await;
    let live = Events::of(client, &id, None).await.expect("a stream").all().await;
    assert_eq!(
        states(&live),
        [
            ("scheduled", 0),
            ("queued", 0),
            ("running", 1),
            ("scheduled", 1),
            ("queued", 1),
            ("running", 2),
            ("succeeded", 2)
        ],
        "{live:#?}"
    );
    let failed = live.iter().rfind(|event| event.data["state"] == "scheduled").expect("one");
    assert_eq!(failed.data["error"]["code"], "asked_to_fail");
    for attempt in [1, 2] {
        let steps = live.iter().filter(|event| event.name == "progress" && event.data["attempt"] == attempt);
        let fractions: Vec<_> = steps.map(|event| event.data["fraction"].as_f64().expect("a number")).collect();
        assert!(fractions.is_sorted() && fractions.last() == Some(&1.0), "the last always: {fractions:?}");
        assert!(fractions.len() < 15, "and not every one of twenty: {fractions:?}");
    }
    assert_eq!(story(client, &id).await, live, "told again, it is the same");
    assert_eq!(client.job(&id).await["links"]["events"], json!(format!("/v1/jobs/{id}/events")));
}

async fn a_short_job_tells_of_its_run(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"value": 1})).await;
    let live = Events::of(client, &id, None).await.expect("a stream").all().await;
    assert_eq!(states(&live), [("queued", 0), ("running", 1), ("succeeded", 1)]);
    let job = client.job(&id).await;
    let at: Vec<&Value> = live.iter().map(|event| &event.data["at"]).collect();
    assert_eq!(at, [&job["created_at"], &job["started_at"], &job["finished_at"]]);
}

async fn a_stream_is_resumed_behind_any_event(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("test.upper", json!({"text": "hello"})).await;
    client.succeeded(&id).await;
    let all = story(client, &id).await;
    assert!(all.iter().any(|event| event.name == "log" && event.data["message"] == "reading"), "{all:#?}");
    for (place, event) in all.iter().enumerate() {
        let rest = Events::of(client, &id, Some(&event.id)).await;
        match rest {
            Some(rest) => assert_eq!(rest.all().await, all[place + 1..]),
            None => assert_eq!(place, all.len() - 1),
        }
    }
}

async fn a_final_job_that_was_seen_to_its_end_is_over(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"value": 1})).await;
    client.succeeded(&id).await;
    let last = story(client, &id).await.pop().expect("an event");
    assert!(Events::of(client, &id, Some(&last.id)).await.is_none());
    client.get(&format!("/v1/jobs/{id}/events?last_event_id=nonsense")).await.problem(400);
    client.get("/v1/jobs/0199f6c2-0000-7000-8000-000000000000/events").await.problem(404);
}
