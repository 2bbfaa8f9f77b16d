//! Streams over the whole intake.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Method;
use futures_util::StreamExt;
use offload_common::broker::{Broker, Signal};
use offload_common::job::transition::{Event, Failure, Retry};
use offload_common::store::{Report, Store};
use offload_common::testing::{eventually, factory};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::problem::ProblemType;
use crate::testing::{TestApp, request};

/// A stream as a client reads it.
struct Reading {
    body: BodyDataStream,
    text: String,
}

/// An event as it came: id, name, data.
type Seen = (String, String, Value);

impl Reading {
    async fn open(app: &TestApp, id: JobId, seen: Option<&str>) -> (Response, Option<Self>) {
        let headers: Vec<_> = seen.map(|id| ("last-event-id", id)).into_iter().collect();
        let request = request(Method::GET, &format!("/v1/jobs/{id}/events"), &headers, Body::empty());
        let mut response = app.router.clone().oneshot(request).await.expect("an answer");
        if response.status() != 200 {
            return (response, None);
        }
        let body = std::mem::take(response.body_mut()).into_data_stream();
        (response, Some(Self { body, text: String::new() }))
    }

    async fn of(app: &TestApp, id: JobId, seen: Option<&str>) -> Self {
        Self::open(app, id, seen).await.1.expect("a stream")
    }

    /// The next block; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = self.body.next().await?.expect("no error");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            let block = self.block().await?;
            if let [id, event, data] = block.lines().collect::<Vec<_>>()[..] {
                let field = |line: &str, name: &str| line.strip_prefix(name).expect("the field").to_owned();
                let data = serde_json::from_str(&field(data, "data: ")).expect("JSON");
                return Some((field(id, "id: "), field(event, "event: "), data));
            }
            assert!(block.starts_with("retry: ") || block.starts_with(':'), "{block}");
        }
    }

    /// Everything up to the end.
    async fn all(mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

/// A job with a past: it talked, failed, talked again and succeeded.
async fn eventful(app: &TestApp) -> JobId {
    let id = app.submit(json!({})).await;
    let (session, lease) = app.claim(id).await;
    let said = vec![factory::line(1, "line\nbreak"), factory::progress(2, 0.5, Some("half"))];
    app.report(Report { lease, said }).await;
    session.leave().await.expect("left");
    app.store.reap(&offload_common::store::ReapPolicy { lease: Duration::ZERO, judge: None }).await.expect("reaped");
    let (_session, lease) = app.claim(id).await;
    app.report(Report { lease, said: vec![factory::progress(1, 1.0, None)] }).await;
    app.end(lease, Event::Succeed, Some(factory::raw("7"))).await;
    id
}

#[tokio::test]
async fn a_final_job_tells_its_story_and_ends() {
    let app = TestApp::start().await;
    let id = eventful(&app).await;
    let (response, reading) = Reading::open(&app, id, None).await;
    for (name, value) in
        [("content-type", sse::EVENT_STREAM), ("cache-control", "no-store"), ("x-accel-buffering", "no")]
    {
        assert_eq!(response.headers()[name], value);
    }
    let events = reading.expect("a stream").all().await;
    let told: Vec<_> = events
        .iter()
        .map(|(id, event, data)| match event.as_str() {
            "state" => format!("{id} {} {}", data["state"].as_str().expect("a state"), data["attempt"]),
            "progress" => format!("{id} {} {}", data["fraction"], data["message"]),
            _ => format!("{id} {event} {}", data["message"]),
        })
        .collect();
    assert_eq!(
        told,
        [
            "1-0 queued 0",
            "2-0 running 1",
            "2-1 log \"line\\nbreak\"",
            "2-2 0.5 \"half\"",
            "3-0 queued 0",
            "4-0 running 1",
            "4-1 1.0 null",
            "5-0 succeeded 1",
        ]
    );
}

/// Wherever a client was cut off, it gets exactly the rest, and nothing more once it has all.
#[tokio::test]
async fn a_stream_is_resumed_behind_any_event() {
    let app = TestApp::start().await;
    let id = eventful(&app).await;
    let all = Reading::of(&app, id, None).await.all().await;
    for (place, (seen, ..)) in all.iter().enumerate() {
        let (response, reading) = Reading::open(&app, id, Some(seen)).await;
        match reading {
            Some(reading) => assert_eq!(reading.all().await, all[place + 1..], "behind {seen}"),
            None => assert_eq!((response.status().as_u16(), place), (204, all.len() - 1), "behind {seen}"),
        }
        let by_parameter = app.get(&format!("/v1/jobs/{id}/events?last_event_id={seen}")).await;
        assert_eq!(by_parameter.text().matches("id: ").count(), all.len() - place - 1);
    }
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let app = TestApp::start().await;
    let id = app.submit(json!({"delay_seconds": 3600})).await;
    let mut reading = Reading::of(&app, id, None).await;
    let (first, _, data) = reading.next().await.expect("an event");
    assert_eq!((first.as_str(), &data["state"]), ("1-0", &json!("scheduled")));
    assert!(data["run_at"].as_str() > data["at"].as_str(), "{data}");
    app.post(&format!("/v1/jobs/{id}/cancel"), &[], "").await;
    let (last, _, data) = reading.next().await.expect("an event");
    assert_eq!((last.as_str(), &data["state"]), ("2-0", &json!("cancelled")));
    assert_eq!(reading.next().await, None, "the stream ends");
}

#[tokio::test]
async fn a_failure_comes_with_its_state() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let failure = Failure { code: "boom".to_owned(), message: "it broke".to_owned(), retry: Retry::Never };
    app.run(id, Event::Fail(failure), None).await;
    let (_, _, data) = Reading::of(&app, id, Some("2-0")).await.next().await.expect("an event");
    assert_eq!((&data["state"], &data["error"]), (&json!("failed"), &json!({"code": "boom", "message": "it broke"})));
}

/// Of those who follow a job some have seen more than others; each gets what it lacks, also of a log of many pages.
#[tokio::test]
async fn followers_at_different_places_get_what_they_lack() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let (_session, lease) = app.claim(id).await;
    let said = (1..=1_000).map(|n| factory::line(n, &format!("line {n}"))).collect();
    app.report(Report { lease, said }).await;
    let readings = [None, Some("2-0"), Some("2-500"), Some("2-1000")].map(|seen| Reading::of(&app, id, seen));
    let readings = futures_util::future::join_all(readings).await;
    app.end(lease, Event::Succeed, None).await;
    app.broker.signal(Signal::Changed(vec![id])).await;
    let counts = futures_util::future::join_all(readings.into_iter().map(Reading::all)).await;
    assert_eq!(counts.iter().map(Vec::len).collect::<Vec<_>>(), [1003, 1001, 501, 1]);
    assert!(
        counts.iter().all(|events| events.is_sorted_by_key(|(id, ..)| id.parse::<offload_common::job::EventId>().ok()))
    );
}

/// A signal may be lost.
#[tokio::test]
async fn an_end_is_told_without_any_signal() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let mut reading = Reading::of(&app, id, Some("1-0")).await;
    app.run(id, Event::Succeed, None).await;
    while let Some((_, _, data)) = reading.next().await {
        if data["state"] == "succeeded" {
            return;
        }
    }
    panic!("the stream ended early");
}

#[tokio::test]
async fn a_shutdown_ends_the_stream() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let mut reading = Reading::of(&app, id, None).await;
    reading.next().await.expect("an event");
    app.stop.cancel();
    assert_eq!(reading.next().await, None);
    app.get(&format!("/v1/jobs/{id}/events")).await.problem(ProblemType::ShuttingDown);
}

#[tokio::test]
async fn what_cannot_be_followed_is_a_problem() {
    let app = TestApp::start().await;
    app.get(&format!("/v1/jobs/{}/events", JobId::new())).await.problem(ProblemType::NotFound);
    app.get("/v1/jobs/x/events").await.problem(ProblemType::NotFound);
    let id = app.submit(json!({})).await;
    for wrong in ["1", "x-1", "1-x", "1--1", "-", "99999999999999999999-0"] {
        let answer = app.get(&format!("/v1/jobs/{id}/events?last_event_id={wrong}")).await;
        answer.problem(ProblemType::InvalidParameter);
        let path = format!("/v1/jobs/{id}/events");
        let answer = app.send(request(Method::GET, &path, &[("last-event-id", wrong)], Body::empty())).await;
        assert_eq!(answer.problem(ProblemType::InvalidParameter)["errors"][0]["parameter"], "Last-Event-ID");
    }
    app.store.close().await;
    app.get(&format!("/v1/jobs/{id}/events")).await.problem(ProblemType::DatabaseUnavailable);
}

/// A client that went away leaves nothing behind, also while nothing happens.
#[tokio::test]
async fn who_left_is_forgotten() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let hub = app.start_hub();
    let following: Vec<_> = futures_util::future::join_all((0..100).map(|_| hub.follow(id, None))).await;
    eventually("all are followed", async || (hub.followers().await == 100).then_some(())).await;
    drop(following);
    eventually("none is left", async || (hub.followers().await == 0).then_some(())).await;
}
