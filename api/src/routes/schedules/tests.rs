//! Schedules over HTTP.

use axum::body::Body;
use axum::http::Method;
use offload_common::job::ScheduleId;
use serde_json::{Value, json};

use crate::problem::ProblemType;
use crate::testing::{Answer, TestApp, request};

fn body(more: &Value) -> Value {
    let mut body = json!({
        "name": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Berlin",
        "job": { "kind": "test.kind", "payload": { "value": 1, "name": "of {{fire.date}}" } },
    });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

async fn make(app: &TestApp, more: Value) -> Value {
    let answer = app.post("/v1/schedules", &[], body(&more)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

async fn send(app: &TestApp, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    app.send(request(method, path, &all, body)).await
}

fn pointers(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().expect("errors");
    let mut pointers: Vec<_> =
        errors.iter().map(|error| error["pointer"].as_str().expect("a pointer").to_owned()).collect();
    pointers.sort_unstable();
    pointers
}

#[tokio::test]
async fn a_schedule_is_made_read_listed_and_removed() {
    let app = TestApp::start().await;
    let answer = app
        .post(
            "/v1/schedules",
            &[],
            body(&json!({"jitter_seconds": 5, "missed": "all", "job":
        {"kind": "test.kind", "payload": {"value": 1.0}, "queue": "reports", "tags": ["t"], "max_attempts": 1}})),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let path = made["links"]["self"].as_str().expect("a path").to_owned();
    assert_eq!((answer.header("location"), answer.header("etag")), (path.as_str(), "\"1\""));
    assert_eq!((&made["cron"], &made["every_seconds"]), (&json!("30 2 * * *"), &Value::Null));
    assert_eq!((&made["overlap"], &made["missed"], &made["max_missed"]), (&json!("skip"), &json!("all"), &json!(100)));
    assert_eq!((&made["job"]["timeout_seconds"], &made["job"]["queue"]), (&json!(3600), &json!("reports")));
    assert!(answer.text().contains(r#""payload":{"value":1.0}"#), "as it was written: {}", answer.text());
    assert!(made["next_at"].is_string() && made["paused"] == false, "{made:#}");
    assert!(made["problem"].as_str().is_some_and(|text| text.contains("no live worker")), "{made:#}");
    let read = app.get(&path).await;
    assert_eq!((read.json(), read.header("etag")), (made.clone(), "\"1\""));
    let other = make(&app, json!({"name": "other"})).await;
    let list = app.get("/v1/schedules?limit=1").await;
    assert_eq!(list.json()["items"], json!([other]));
    let next = list.header("link").split(['<', '>']).nth(1).expect("a link").to_owned();
    assert_eq!(app.get(&next).await.json()["items"], json!([made]));
    assert_eq!(app.get("/v1/schedules?name=nightly").await.json()["items"], json!([made]));
    assert_eq!(send(&app, Method::DELETE, &path, &[], &Value::Null).await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        send(&app, method, &path, &[], &Value::Null).await.problem(ProblemType::NotFound);
    }
}

#[tokio::test]
async fn whatever_is_wrong_is_pointed_at() {
    let app = TestApp::start().await;
    for (more, expected) in [
        (json!({"name": null}), &["/name"][..]),
        (
            json!({"name": "", "cron": "61 * * * *", "time_zone": "Berlin", "colour": 1}),
            &["/colour", "/cron", "/name", "/time_zone"],
        ),
        (json!({"cron": null}), &["/cron"]),
        (json!({"every_seconds": 60}), &["/every_seconds"]),
        (json!({"cron": null, "every_seconds": 0}), &["/every_seconds"]),
        (json!({"cron": "0 0 30 2 *"}), &["/cron"]),
        (json!({"starts_at": "2040-01-02T00:00:00Z", "ends_at": "2040-01-01T00:00:00Z"}), &["/ends_at"]),
        (json!({"ends_at": "2020-01-01T00:00:00Z"}), &["/ends_at"]),
        (
            json!({"missed": "some", "overlap": 1, "jitter_seconds": -1, "max_missed": 0}),
            &["/jitter_seconds", "/max_missed", "/missed", "/overlap"],
        ),
        (json!({"job": null}), &["/job"]),
        (json!({"job": 1}), &["/job"]),
        (json!({"job": {}}), &["/job/kind", "/job/payload"]),
        (json!({"job": {"kind": "nonesuch", "payload": {}}}), &["/job/kind"]),
        (
            json!({"job": {"kind": "test.kind", "payload": {"value": "x"}, "run_at": "2040-01-01T00:00:00Z", "queue": "no"}}),
            &["/job/payload/value", "/job/queue", "/job/run_at"],
        ),
        (json!({"job": {"kind": "test.kind", "payload": {"value": 1, "name": "{{fire.never}}"}}}), &["/job/payload"]),
        (json!({"job": {"kind": "test.kind", "payload": {"value": 1, "name": "\u{0}"}}}), &["/job/payload/name"]),
        (json!({"batch": {"jobs": []}}), &["/batch"]),
        (
            json!({"job": {"kind": "test.kind", "payload": {"value": 1}, "unique_key": "{{fire.no}}"}}),
            &["/job/unique_key"],
        ),
        (json!({"job": null, "batch": 1}), &["/batch"]),
        (json!({"job": null, "batch": {}}), &["/batch/jobs"]),
        (json!({"job": null, "batch": {"jobs": [], "sealed": false}}), &["/batch/jobs", "/batch/sealed"]),
        (json!({"job": null, "batch": {"jobs": {}}}), &["/batch/jobs"]),
        (
            json!({"job": null, "batch": {
                "jobs": [{"kind": "test.kind", "payload": {"value": 1}}, 1, {"kind": "test.kind"},
                         {"kind": "test.kind", "payload": {"value": 1, "name": "{{fire.x}}"}, "unique_key": "k", "run_at": null}],
                "follow_up": {"kind": "nonesuch", "payload": {}}, "callback": {"url": "no", "secret": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"}, "metadata": [],
            }}),
            &[
                "/batch/callback/url",
                "/batch/follow_up/kind",
                "/batch/jobs/1",
                "/batch/jobs/2/payload",
                "/batch/jobs/3/payload",
                "/batch/jobs/3/run_at",
                "/batch/jobs/3/unique_key",
                "/batch/metadata",
            ],
        ),
        (
            json!({"job": null, "batch": {"defaults": {"queue": "no", "after": []}, "jobs": [{"kind": "nonesuch"}]}}),
            &["/batch/defaults/after", "/batch/defaults/queue"],
        ),
        (
            json!({"job": {"kind": "test.kind", "payload": {"value": 1}, "unique_key": "", "on_conflict": "replace"}}),
            &["/job/on_conflict", "/job/unique_key"],
        ),
        (
            json!({"overlap": "cancel_previous", "job": {"kind": "test.kind", "payload": {"value": 1}, "unique_key": "k"}}),
            &["/overlap"],
        ),
    ] {
        let problem = app.post("/v1/schedules", &[], body(&more)).await.problem(ProblemType::Validation);
        let mut found = pointers(&problem);
        found.dedup();
        assert_eq!(found, expected, "{more}: {problem:#}");
    }
    assert!(app.get("/v1/schedules").await.json()["items"].as_array().is_some_and(Vec::is_empty));
}

#[tokio::test]
async fn a_name_leads_to_its_schedule() {
    let app = TestApp::start().await;
    let made = make(&app, json!({})).await;
    let problem = app.post("/v1/schedules", &[], body(&json!({}))).await.problem(ProblemType::NameTaken);
    assert_eq!(problem["id"], made["id"]);
    let other = make(&app, json!({"name": "other"})).await;
    let path = other["links"]["self"].as_str().expect("a path");
    let problem = send(&app, Method::PATCH, path, &[], &json!({"name": "nightly"})).await;
    assert_eq!(problem.problem(ProblemType::NameTaken)["id"], made["id"]);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_mention() {
    let app = TestApp::start().await;
    let made = make(&app, json!({"overlap": "queue", "jitter_seconds": 3})).await;
    let path = made["links"]["self"].as_str().expect("a path");
    let patch = async |change: Value| {
        let answer = send(&app, Method::PATCH, path, &[], &change).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let changed = patch(json!({"name": "weekly", "overlap": null})).await;
    let expected = [json!("weekly"), json!("skip"), json!(3.0), json!("30 2 * * *"), json!("Europe/Berlin")];
    let members = ["name", "overlap", "jitter_seconds", "cron", "time_zone"].map(|name| changed[name].clone());
    assert_eq!(members, expected);
    assert_eq!((&changed["job"], &changed["next_at"]), (&made["job"], &made["next_at"]));
    let changed = patch(json!({"every_seconds": 60, "job": {"kind": "test.kind", "payload": {"value": 2}}})).await;
    assert_eq!((&changed["cron"], &changed["every_seconds"]), (&Value::Null, &json!(60)));
    assert_eq!((&changed["job"]["payload"], &changed["job"]["unique_key"]), (&json!({"value": 2}), &Value::Null));
    let job = json!({"kind": "test.kind", "payload": {"value": 2}, "unique_key": "k"});
    assert_eq!(patch(json!({"job": job})).await["job"]["unique_key"], "k");
    assert_ne!(changed["next_at"], made["next_at"]);
    for (wrong, pointer) in [
        (json!({"name": null}), "/name"),
        (json!({"every_seconds": null}), "/every_seconds"),
        (json!({"overlap": "cancel_previous"}), "/overlap"),
    ] {
        let problem = send(&app, Method::PATCH, path, &[], &wrong).await.problem(ProblemType::Validation);
        assert_eq!(pointers(&problem), [pointer]);
    }
}

#[tokio::test]
async fn a_batch_is_made_shown_changed_and_run() {
    let app = TestApp::start().await;
    let batch = json!({
        "defaults": {"kind": "test.kind", "payload": {"value": 1, "name": "{{fire.date}}"}, "tags": ["t"]},
        "jobs": [{}, {"payload": {"value": 2}, "tags": []}],
        "follow_up": {"kind": "test.kind", "payload": {"value": 3, "name": "{{fire.time}}"}},
        "metadata": {"m": 1.0},
    });
    let made = make(&app, json!({"job": null, "batch": batch, "overlap": "cancel_previous", "time_zone": "UTC"})).await;
    let path = made["links"]["self"].as_str().expect("a path");
    let jobs = made["batch"]["jobs"].as_array().expect("its jobs");
    assert_eq!((&made["job"], &made["batch"]["total"], jobs.len()), (&Value::Null, &json!(2), 2));
    assert_eq!(jobs[0]["payload"], json!({"value": 1, "name": "{{fire.date}}"}), "as it was written");
    assert_eq!(
        (&jobs[0]["tags"], &jobs[1]["tags"], &jobs[1]["payload"]),
        (&json!(["t"]), &json!([]), &json!({"value": 2}))
    );
    assert_eq!(made["batch"]["follow_up"]["payload"]["name"], "{{fire.time}}");
    assert!(made["problem"].as_str().is_some_and(|text| text.contains("no live worker")), "{made:#}");
    let listed = app.get("/v1/schedules").await.json();
    assert_eq!(
        (&listed["items"][0]["batch"]["total"], &listed["items"][0]["batch"]["jobs"]),
        (&json!(2), &Value::Null)
    );

    let run = async |key: &str| app.post(&format!("{path}/run"), &[("idempotency-key", key)], "").await;
    let ran = run("k").await;
    let batch = ran.json();
    let id = batch["id"].as_str().expect("an id");
    assert_eq!((ran.status, ran.header("location")), (202, format!("/v1/batches/{id}").as_str()), "{}", ran.text());
    assert_eq!((&batch["total"], &batch["metadata"]), (&json!(2), &json!({"m": 1.0})));
    let again = run("k").await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json()["id"]), (202, "true", &batch["id"]));
    let jobs = app.get(&format!("/v1/jobs?batch_id={id}")).await.json();
    let fired = jobs["items"].as_array().expect("jobs");
    assert!(fired.len() == 2 && fired.iter().all(|job| job["schedule_id"] == made["id"]), "{jobs:#}");
    let fires = app.get(&format!("{path}/fires")).await.json();
    assert_eq!((&fires["items"][0]["batch_id"], &fires["items"][0]["job_id"]), (&batch["id"], &Value::Null));
    let read = app.get(path).await.json();
    assert_eq!((&read["last_batch_id"], &read["last_job_id"]), (&batch["id"], &Value::Null));

    // What is not mentioned stays; a job takes the place of a batch, and back.
    let patch = async |change: Value| send(&app, Method::PATCH, path, &[], &change).await;
    let kept = patch(json!({"jitter_seconds": 1})).await.json();
    assert_eq!(kept["batch"], made["batch"]);
    assert_eq!(pointers(&patch(json!({"batch": null})).await.problem(ProblemType::Validation)), ["/batch"]);
    let job = patch(json!({"job": {"kind": "test.kind", "payload": {"value": 9}, "unique_key": "of {{fire.date}}"},
                           "overlap": "skip"}))
    .await;
    assert_eq!(
        (&job.json()["job"]["payload"]["value"], &job.json()["batch"]),
        (&json!(9), &Value::Null),
        "{}",
        job.text()
    );
    assert_eq!(job.json()["job"]["unique_key"], "of {{fire.date}}", "as it was written");
    let ran = run("l").await.json();
    let day = ran["fire_at"].as_str().and_then(|at| at.get(..10)).expect("a time");
    assert_eq!(ran["unique_key"], format!("of {day}"));
    let back = patch(json!({"batch": {"jobs": [{"kind": "test.kind", "payload": {"value": 1}}]}})).await.json();
    assert_eq!((&back["job"], &back["batch"]["total"]), (&Value::Null, &json!(1)));
}

#[tokio::test]
async fn a_change_may_name_the_version_that_it_is_meant_for() {
    let app = TestApp::start().await;
    let made = make(&app, json!({})).await;
    let path = made["links"]["self"].as_str().expect("a path");
    let change = json!({"overlap": "allow"});
    for (given, version) in [("\"1\"", "\"2\""), ("\"7\", \"2\"", "\"3\""), ("*", "\"4\"")] {
        let answer = send(&app, Method::PATCH, path, &[("if-match", given)], &change).await;
        assert_eq!((answer.status, answer.header("etag")), (200, version), "{given}");
    }
    let pause = format!("{path}/pause");
    for (method, path, body) in [
        (Method::PATCH, path, &change),
        (Method::DELETE, path, &Value::Null),
        (Method::POST, pause.as_str(), &Value::Null),
    ] {
        let answer = send(&app, method, path, &[("if-match", "\"1\"")], body).await;
        answer.problem(ProblemType::PreconditionFailed);
        assert_eq!(answer.header("etag"), "\"4\"");
    }
    assert_eq!(send(&app, Method::DELETE, path, &[("if-match", "\"4\"")], &Value::Null).await.status, 204);
}

#[tokio::test]
async fn a_preview_shows_what_the_clocks_do() {
    let app = TestApp::start().await;
    let made = make(&app, json!({})).await;
    let path = made["links"]["preview"].as_str().expect("a path");
    let preview = app.get(&format!("{path}?count=3&after=2027-03-26T12:00:00Z")).await.json();
    assert_eq!(
        preview,
        json!({"fires": [
            {"at": "2027-03-27T01:30:00.000000Z", "local": "2027-03-27T02:30:00+01:00"},
            {"at": "2027-03-28T01:00:00.000000Z", "local": "2027-03-28T03:00:00+02:00",
             "note": "the clocks go forward over 02:30: it runs right after the gap"},
            {"at": "2027-03-29T00:30:00.000000Z", "local": "2027-03-29T02:30:00+02:00"},
        ]})
    );
    let count = async |query: &str| app.get(&format!("{path}{query}")).await.json()["fires"].as_array().map(Vec::len);
    assert_eq!((count("").await, count("?count=1000").await), (Some(20), Some(1000)));
    app.get(&format!("{path}?count=1001")).await.problem(ProblemType::InvalidParameter);
}

#[tokio::test]
async fn pausing_resuming_and_running_now() {
    let app = TestApp::start().await;
    let made = make(&app, json!({})).await;
    let path = made["links"]["self"].as_str().expect("a path");
    let act = async |what: &str, headers: &[(&str, &str)]| app.post(&format!("{path}/{what}"), headers, "").await;
    for _ in 0..2 {
        let paused = act("pause", &[]).await;
        assert_eq!((paused.status, paused.header("etag")), (200, "\"2\""), "once more changes nothing");
        assert_eq!((&paused.json()["paused"], &paused.json()["next_at"]), (&json!(true), &Value::Null));
    }
    let run = act("run", &[("idempotency-key", "k")]).await;
    let job = run.json();
    assert_eq!((run.status, &job["schedule_id"]), (202, &made["id"]), "{}", run.text());
    assert_eq!(run.header("location"), format!("/v1/jobs/{}", job["id"].as_str().expect("an id")));
    let again = act("run", &[("idempotency-key", "k")]).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json()["id"]), (202, "true", &job["id"]));
    let jobs = app.get(made["links"]["jobs"].as_str().expect("a path")).await.json();
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(1));
    let fires = app.get(&format!("{path}/fires")).await.json();
    assert_eq!((&fires["items"][0]["outcome"], &fires["items"][0]["job_id"]), (&json!("run_now"), &job["id"]));
    assert_eq!(act("resume", &[]).await.json()["next_at"], made["next_at"]);
    let nowhere = format!("/v1/schedules/{}/run", ScheduleId::new());
    app.post(&nowhere, &[], "").await.problem(ProblemType::NotFound);
}
