//! Streams over the whole intake.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use offload_common::broker::{Broker, Signal};
use offload_common::job::transition::{Event, Failure, Retry};
use offload_common::store::{Report, Store};
use offload_common::testing::{eventually, factory};
use serde_json::json;

use super::*;
use crate::problem::ProblemType;
use crate::testing::reading::Reading;
use crate::testing::{TestApp, request};

fn events(id: JobId) -> String {
    format!("/v1/jobs/{id}/events")
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
    let (response, reading) = Reading::open(&app, &events(id), None).await;
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
    let all = Reading::of(&app, &events(id), None).await.all().await;
    for (place, (seen, ..)) in all.iter().enumerate() {
        let (response, reading) = Reading::open(&app, &events(id), Some(seen)).await;
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
    let mut reading = Reading::of(&app, &events(id), None).await;
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
    let (_, _, data) = Reading::of(&app, &events(id), Some("2-0")).await.next().await.expect("an event");
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
    let readings = [None, Some("2-0"), Some("2-500"), Some("2-1000")].map(|seen| {
        let path = events(id);
        let app = &app;
        async move { Reading::of(app, &path, seen).await }
    });
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
    let mut reading = Reading::of(&app, &events(id), Some("1-0")).await;
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
    let mut reading = Reading::of(&app, &events(id), None).await;
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
