//! Streams of batches over the whole intake.

use axum::body::{Body, BodyDataStream};
use axum::http::Method;
use offload_common::job::transition::Event;
use offload_common::testing::factory;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::testing::{Answer, TestApp, request};

async fn submit(app: &TestApp, jobs: usize, sealed: bool) -> Value {
    let job = json!({"kind": factory::KIND, "payload": {"value": 1}});
    let answer = app.post("/v1/batches", &[], json!({"jobs": vec![job; jobs], "sealed": sealed})).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()
}

async fn end_one(app: &TestApp, batch: &Value) {
    let path = format!("{}&state=queued&limit=1", batch["links"]["jobs"].as_str().expect("a link"));
    let jobs = app.get(&path).await.json();
    let id = jobs["items"][0]["id"].as_str().expect("a job").parse().expect("an id");
    app.run(id, Event::Succeed, None).await;
}

fn events(batch: &Value) -> String {
    format!("{}/events", batch["links"]["self"].as_str().expect("a link"))
}

/// The events that have come, each with its id.
fn parsed(text: &str) -> Vec<(String, Value)> {
    let field = |block: &str, name: &str| block.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    let blocks = text.split("\n\n").filter_map(|block| Some((field(block, "id: ")?, field(block, "data: ")?)));
    blocks.map(|(id, data)| (id, serde_json::from_str(&data).expect("JSON"))).collect()
}

async fn open(app: &TestApp, path: &str) -> BodyDataStream {
    let answer = app.router.clone().oneshot(request(Method::GET, path, &[], Body::empty())).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], sse::EVENT_STREAM);
    answer.into_body().into_data_stream()
}

/// The next event.
async fn next(stream: &mut BodyDataStream) -> (String, Value) {
    loop {
        let piece = stream.next().await.expect("more").expect("no error");
        if let Some(event) = parsed(std::str::from_utf8(&piece).expect("text")).pop() {
            return event;
        }
    }
}

async fn after(app: &TestApp, path: &str, seen: &str) -> Answer {
    app.send(request(Method::GET, path, &[("last-event-id", seen)], Body::empty())).await
}

#[tokio::test]
async fn a_batch_is_told_as_it_is_whenever_it_has_moved_and_to_its_end() {
    let app = TestApp::start().await;
    let batch = submit(&app, 2, false).await;
    let mut stream = open(&app, &events(&batch)).await;
    let (id, data) = next(&mut stream).await;
    assert_eq!((id.as_str(), &data["counts"]), ("2-0-0", &batch["counts"]));
    end_one(&app, &batch).await;
    let (id, data) = next(&mut stream).await;
    assert_eq!((id.as_str(), &data["progress"]["fraction"]), ("2-1-0", &json!(0.5)));
    app.post(&format!("{}/seal", batch["links"]["self"].as_str().expect("a link")), &[], "").await;
    assert_eq!(next(&mut stream).await.0, "2-1-1");
    end_one(&app, &batch).await;
    let (id, data) = next(&mut stream).await;
    assert_eq!((id.as_str(), data["finished_at"].is_string()), ("2-2-2", true));
    assert!(stream.next().await.is_none(), "the end is an end");
}

#[tokio::test]
async fn who_has_seen_an_event_gets_what_comes_behind_it() {
    let app = TestApp::start().await;
    let batch = submit(&app, 1, true).await;
    let path = events(&batch);
    end_one(&app, &batch).await;
    let whole = app.get(&path).await;
    assert_eq!(parsed(whole.text()).iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["1-1-2"]);
    assert!(whole.text().starts_with("retry: "));
    assert_eq!(parsed(after(&app, &path, "1-0-1").await.text()), parsed(whole.text()));
    assert_eq!(after(&app, &path, "1-1-2").await.status, 204);
    assert_eq!(app.get(&format!("{path}?last_event_id=1-1-2")).await.status, 204);
}

#[tokio::test]
async fn what_is_no_batch_or_no_event_is_a_problem() {
    let app = TestApp::start().await;
    let path = events(&submit(&app, 1, true).await);
    for wrong in ["1", "1-0", "1-0-7", "x"] {
        after(&app, &path, wrong).await.problem(ProblemType::InvalidParameter);
    }
    app.get(&format!("/v1/batches/{}/events", BatchId::new())).await.problem(ProblemType::NotFound);
}
