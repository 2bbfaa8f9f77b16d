//! Jobs that are accepted, repeated, waited for; and a database that is away.

use std::collections::BTreeSet;
use std::time::Duration;

use offload_common::broker::{Broker, Event};
use offload_common::job::transition::Event as JobEvent;
use offload_common::job::{Lane, Priority};
use offload_common::store::{JobFilter, Retention, Store};
use offload_common::testing::{eventually, factory};
use serde_json::{Value, json};

use crate::problem::ProblemType;
use crate::testing::TestApp;

#[tokio::test]
async fn an_accepted_job_is_committed_published_and_answered_in_full() {
    let app = TestApp::start().await;
    let body = r#"{"kind": "test.kind", "payload": {"value": 1.0e0,   "name": null},
        "queue": "reports", "priority": "high", "max_attempts": 7, "timeout_seconds": 9,
        "metadata": {"b": 1, "a": 2}, "tags": ["x", "y"]}"#;
    let answer = app.post("/v1/jobs", &[], body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let job = answer.json();
    assert_eq!(answer.header("location"), format!("/v1/jobs/{}", job["id"].as_str().expect("an id")));
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains(r#""payload":{"value": 1.0e0,   "name": null}"#), "{}", answer.text());
    assert!(answer.text().contains(r#""metadata":{"b": 1, "a": 2}"#), "{}", answer.text());
    for (member, value) in [
        ("kind", json!("test.kind")),
        ("queue", json!("reports")),
        ("priority", json!("high")),
        ("state", json!("queued")),
        ("attempt", json!(0)),
        ("max_attempts", json!(7)),
        ("timeout_seconds", json!(9)),
        ("tags", json!(["x", "y"])),
        ("progress", Value::Null),
        ("result", Value::Null),
        ("error", Value::Null),
        ("started_at", Value::Null),
        ("finished_at", Value::Null),
        ("batch_id", Value::Null),
        ("schedule_id", Value::Null),
        ("retry_of", Value::Null),
    ] {
        assert_eq!(job[member], value, "{member}");
    }
    let read = app.get(answer.header("location")).await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json(), job, "what is answered is what is stored");

    let lane = Lane { queue: "reports".to_owned(), priority: Priority::High };
    let mut consumer = app.broker.consume(&[lane], 1).await;
    let delivery = loop {
        match consumer.next().await.expect("an event") {
            Event::Delivery(delivery) => break delivery,
            Event::Connected | Event::Disconnected => {}
        }
    };
    assert_eq!(delivery.pointers[0].id.to_string(), job["id"]);
}

#[tokio::test]
async fn what_is_left_out_is_the_kinds_default_and_null_is_left_out() {
    let app = TestApp::start().await;
    let body = json!({
        "kind": "test.kind", "payload": {"value": 1}, "queue": null, "priority": null, "run_at": null,
        "delay_seconds": null, "max_attempts": null, "timeout_seconds": null, "metadata": null, "tags": null,
    });
    let job = app.post("/v1/jobs", &[], body).await.json();
    assert_eq!((&job["queue"], &job["priority"]), (&json!("default"), &json!("normal")));
    assert_eq!((&job["max_attempts"], &job["timeout_seconds"]), (&json!(5), &json!(3600)));
    assert_eq!((&job["metadata"], &job["tags"]), (&json!({}), &json!([])));
}

#[tokio::test]
async fn a_job_for_later_is_scheduled_and_one_for_earlier_is_queued() {
    let app = TestApp::start().await;
    for (field, value, state) in [
        ("delay_seconds", json!(60), "scheduled"),
        ("delay_seconds", json!(0.5), "scheduled"),
        ("delay_seconds", json!(0), "queued"),
        ("run_at", json!("2999-01-01T00:00:00.123456789+02:00"), "scheduled"),
        ("run_at", json!("2001-01-01T00:00:00Z"), "queued"),
    ] {
        let body = json!({"kind": "test.kind", "payload": {"value": 1}, field: value});
        let answer = app.post("/v1/jobs", &[], body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(answer.json()["state"], state, "{field} {value}");
        if field == "run_at" && state == "scheduled" {
            assert_eq!(answer.json()["run_at"], "2998-12-31T22:00:00.123456Z");
        }
    }
}

#[tokio::test]
async fn the_same_key_and_body_name_the_same_job() {
    let app = TestApp::start().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}}).to_string();
    let first = app.post("/v1/jobs", &[("idempotency-key", "k")], &body).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, ""));
    let again = app.post("/v1/jobs", &[("idempotency-key", "\"k\"")], &body).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(again.header("location"), first.header("location"));
    let other = app.post("/v1/jobs", &[("idempotency-key", "k")], format!("{body} ")).await;
    other.problem(ProblemType::IdempotencyKeyReused);
    let bad = app.post("/v1/jobs", &[("idempotency-key", "with blank")], &body).await;
    bad.problem(ProblemType::InvalidIdempotencyKey);
    assert_eq!(app.store.jobs(&factory::filter()).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn a_replay_of_a_job_that_is_gone_makes_no_new_one() {
    let app = TestApp::start().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}});
    let first = app.post("/v1/jobs", &[("idempotency-key", "k")], &body).await;
    let id = first.json()["id"].as_str().expect("a text").parse().expect("an id");
    app.run(id, JobEvent::Succeed, None).await;
    let day = Duration::from_secs(86_400);
    let retention = Retention { jobs: Duration::ZERO, files: day, idempotency_keys: day };
    eventually("the job to be pruned", async || {
        app.store.prune(&retention).await.expect("pruned");
        (app.get(first.header("location")).await.status == 404).then_some(())
    })
    .await;
    app.post("/v1/jobs", &[("idempotency-key", "k")], &body).await.problem(ProblemType::Gone);
}

#[tokio::test]
async fn fifty_requests_with_one_key_make_one_job() {
    let app = TestApp::start().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}});
    let requests = (0..50).map(|_| app.post("/v1/jobs", &[("idempotency-key", "k")], &body));
    let answers = futures_util::future::join_all(requests).await;
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty()).count(), 1);
}

#[tokio::test]
async fn who_prefers_to_wait_gets_the_finished_job() {
    let app = TestApp::start().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}, "tags": ["waited"]});
    let waiting = app.post("/v1/jobs", &[("prefer", "wait=50")], &body);
    let working = async {
        let filter = JobFilter { tag: Some("waited".to_owned()), ..factory::filter() };
        let job =
            eventually("the job", async || app.store.jobs(&filter).await.expect("listed").first().map(|job| job.id));
        app.run(job.await, JobEvent::Succeed, Some(factory::raw("[1]"))).await;
    };
    let (answer, ()) = tokio::join!(waiting, working);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), "wait=50");
    assert_eq!((&answer.json()["state"], &answer.json()["result"]), (&json!("succeeded"), &json!([1])));
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn who_waits_in_vain_gets_the_job_as_it_is() {
    let app = TestApp::start_with(|settings| settings.server.max_wait_seconds = 1).await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}});
    let answer = app.post("/v1/jobs?wait=1", &[], &body).await;
    assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("queued")));
    let answer = app.post("/v1/jobs", &[("prefer", "respond-async")], &body).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (202, "respond-async"));
    app.post("/v1/jobs?wait=x", &[], &body).await.problem(ProblemType::InvalidParameter);
    app.post("/v1/jobs?when=now", &[], &body).await.problem(ProblemType::InvalidParameter);
}

#[tokio::test]
async fn the_trace_goes_with_the_job() {
    let app = TestApp::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({"kind": "test.kind", "payload": {"value": 1}});
    for (sent, kept) in [(trace, true), ("nonsense", false)] {
        let id = app.post("/v1/jobs", &[("traceparent", sent)], &body).await.json()["id"].clone();
        let id = id.as_str().expect("a text").parse().expect("an id");
        let stored = app.store.fetch(&[id]).await.expect("fetched").remove(0).expect("there").traceparent;
        assert_eq!(stored.as_deref() == Some(trace), kept);
        assert!(stored.is_some_and(|stored| stored.len() == trace.len()));
    }
}

#[tokio::test]
async fn without_its_database_the_intake_asks_to_come_again() {
    let app = TestApp::start_with(|settings| settings.server.request_timeout_seconds = 1.0).await;
    app.store.close().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}});
    let answer = app.post("/v1/jobs", &[], body).await;
    answer.problem(ProblemType::DatabaseUnavailable);
    assert!((1..=5).contains(&answer.header("retry-after").parse::<u64>().expect("seconds")));
}

#[tokio::test]
async fn a_database_without_tables_is_told_with_what_to_do() {
    let app = TestApp::start_with(|settings| settings.migrated = false).await;
    let answer = app.post("/v1/jobs", &[], json!({"kind": "test.kind", "payload": {"value": 1}})).await;
    let problem = answer.problem(ProblemType::DatabaseNotMigrated);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("offload migrate")));
}
