//! Batches over HTTP: what is taken in, what is refused and how that is told, and what can be done with them.

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;
use offload_common::job::transition::{Event, Failure, Retry};
use offload_common::store::Store;
use offload_common::testing::factory;
use serde_json::{Value, json};

use crate::problem::ProblemType;
use crate::testing::{Answer, TestApp, request};

const PATH: &str = "/v1/batches";
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

async fn lines(app: &TestApp, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let headers = [&[LINES], headers].concat();
    app.send(request(Method::POST, path, &headers, body.into())).await
}

fn job(more: Value) -> Value {
    let mut job = json!({ "kind": factory::KIND, "payload": { "value": 1 } });
    job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    job
}

async fn jobs(app: &TestApp, batch: &Value) -> Vec<Value> {
    let path = batch["links"]["jobs"].as_str().expect("a link");
    let mut jobs = app.get(path).await.json()["items"].as_array().expect("items").clone();
    jobs.reverse();
    jobs
}

fn errors(problem: &Value) -> Vec<String> {
    let errors = problem["errors"].as_array().expect("errors");
    let told = |error: &Value| format!("{} {} {}", error["line"], error["pointer"], error["detail"]);
    errors.iter().map(told).collect()
}

#[tokio::test]
async fn a_document_of_jobs_is_a_batch() {
    let app = TestApp::start().await;
    let body = json!({
        "defaults": { "kind": factory::KIND, "payload": { "value": 7 }, "priority": "low", "delay_seconds": 60, "tags": ["d"] },
        "metadata": { "a": 1.50 },
        "jobs": [{}, { "payload": { "value": 1 }, "priority": null, "tags": ["own"] }, { "run_at": "2020-01-01T00:00:00Z" }],
    });
    let answer = app.post(PATH, &[], &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let batch = answer.json();
    assert_eq!(answer.header("location"), batch["links"]["self"]);
    assert_eq!(
        (&batch["total"], &batch["sealed"], &batch["progress"]),
        (&json!(3), &json!(true), &json!({"fraction": 0.0}))
    );
    assert_eq!((&batch["counts"]["scheduled"], &batch["counts"]["queued"]), (&json!(2), &json!(1)));
    assert!(batch.get("refused").is_none() && batch["finished_at"].is_null());
    assert!(answer.text().contains(r#""metadata":{"a":1.5}"#), "{}", answer.text());
    let jobs = jobs(&app, &batch).await;
    let seen: Vec<_> =
        jobs.iter().map(|job| json!([job["payload"]["value"], job["priority"], job["tags"], job["state"]])).collect();
    let expected =
        json!([[7, "low", ["d"], "scheduled"], [1, "normal", ["own"], "scheduled"], [7, "low", ["d"], "queued"]]);
    assert_eq!(json!(seen), expected);
    assert!(jobs.iter().all(|job| job["batch_id"] == batch["id"]));
    assert_eq!(app.get(answer.header("location")).await.json()["id"], batch["id"]);
}

#[tokio::test]
async fn a_line_is_a_job() {
    let app = TestApp::start().await;
    let header = json!({"batch": {"defaults": {"kind": factory::KIND}, "metadata": {"n": 1}}});
    let body = format!("\n{header}\r\n{}\n \n{}", json!({"payload": {"value": 1}}), job(json!({"tags": ["x"]})));
    let pieces: Vec<_> =
        body.as_bytes().chunks(7).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let answer = lines(&app, PATH, &[], Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let batch = answer.json();
    assert_eq!((&batch["total"], &batch["metadata"]), (&json!(2), &json!({"n": 1})));
    assert_eq!(jobs(&app, &batch).await[1]["tags"], json!(["x"]));
}

/// More than stays in memory: through the temporary file, in order.
#[tokio::test]
async fn many_jobs_take_the_way_over_a_file() {
    let app = TestApp::start().await;
    let name = "x".repeat(900);
    let body: String =
        (0..2500).map(|n| job(json!({"payload": {"value": n, "name": name}})).to_string() + "\n").collect();
    let batch = lines(&app, PATH, &[], body).await.json();
    assert_eq!((&batch["total"], &batch["counts"]["queued"]), (&json!(2500), &json!(2500)));
    let path = format!("{}&limit=1000", batch["links"]["jobs"].as_str().expect("a link"));
    let newest = app.get(&path).await.json();
    let values: Vec<_> =
        newest["items"].as_array().expect("items").iter().map(|job| job["payload"]["value"].as_u64()).collect();
    assert_eq!(values, (1500..2500).rev().map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_bad_line_refuses_all_and_every_one_is_named() {
    let app = TestApp::start().await;
    let body = [
        job(json!({})).to_string(),
        String::new(),
        "{\"kind\"".into(),
        job(json!({"payload": {"value": "x"}, "colour": 1})).to_string(),
        "7".into(),
        json!({"kind": "nothing", "payload": {}}).to_string(),
    ]
    .join("\n");
    let problem = lines(&app, PATH, &[], body.clone()).await.problem(ProblemType::Validation);
    assert_eq!(problem["refused"], 4);
    let told = errors(&problem);
    let places: Vec<_> = told.iter().map(|error| error.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(places, ["3 \"\"", "4 \"/colour\"", "4 \"/payload/value\"", "5 \"\"", "6 \"/kind\""], "{told:#?}");
    assert!(app.get("/v1/jobs").await.json()["items"].as_array().expect("items").is_empty());

    let answer = lines(&app, "/v1/batches?partial=true", &[], body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let batch = answer.json();
    assert_eq!((&batch["total"], &batch["refused"], &batch["refusals"][0]["line"]), (&json!(1), &json!(4), &json!(3)));
    let all_bad = lines(&app, "/v1/batches?partial=true", &[], "7\n").await.problem(ProblemType::Validation);
    assert_eq!(all_bad["refused"], 1);
}

#[tokio::test]
async fn a_hundred_errors_are_listed() {
    let app = TestApp::start().await;
    let problem = lines(&app, PATH, &[], "7\n".repeat(250)).await.problem(ProblemType::Validation);
    assert_eq!((errors(&problem).len(), &problem["refused"]), (100, &json!(250)));
}

#[tokio::test]
async fn what_is_said_of_all_jobs_is_checked_once() {
    let app = TestApp::start().await;
    let good = job(json!({}));
    for (header, place) in [
        (json!({"defaults": {"queue": "x"}}), "/defaults/queue"),
        (json!({"defaults": {"colour": 1}}), "/defaults/colour"),
        (json!({"defaults": {"kind": factory::KIND, "payload": {"value": "x"}}}), "/defaults/payload/value"),
        (json!({"defaults": 1}), "/defaults"),
        (json!({"follow_up": {"kind": factory::KIND}}), "/follow_up/payload"),
        (json!({"follow_up": job(json!({"unique_key": "k"}))}), "/follow_up/unique_key"),
        (json!({"metadata": []}), "/metadata"),
        (json!({"metadata": {"a": "\u{0}"}}), "/metadata"),
        (json!({"sealed": 1}), "/sealed"),
        (json!({"colour": 1}), "/colour"),
    ] {
        let mut document = header.clone();
        document["jobs"] = json!([good]);
        let problem = app.post(PATH, &[], &document).await.problem(ProblemType::Validation);
        assert_eq!(problem["errors"][0]["pointer"], place, "{problem:#}");
        let body = format!("{}\n{good}\n", json!({"batch": header}));
        let problem = lines(&app, PATH, &[], body).await.problem(ProblemType::Validation);
        assert_eq!(
            (&problem["errors"][0]["pointer"], &problem["errors"][0]["line"]),
            (&json!(format!("/batch{place}")), &json!(1))
        );
    }
    for body in [json!({}), json!({"jobs": []}), json!({"jobs": 1})] {
        let problem = app.post(PATH, &[], &body).await.problem(ProblemType::Validation);
        assert_eq!(problem["errors"][0]["pointer"], "/jobs");
    }
    let problem = app.post(PATH, &[], json!({"jobs": [good, {}]})).await.problem(ProblemType::Validation);
    assert!(
        problem["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .all(|e| e["pointer"].as_str().expect("one").starts_with("/jobs/1"))
    );
    lines(&app, PATH, &[], "\n \n").await.problem(ProblemType::Validation);
    app.post("/v1/batches?partial=yes", &[], json!({"jobs": [good]})).await.problem(ProblemType::InvalidParameter);
}

#[tokio::test]
async fn bodies_and_lines_have_their_limits() {
    let app = TestApp::start_with(|settings| {
        settings.server.max_body_bytes = 2000;
        settings.server.max_batch_bytes = 5000;
    })
    .await;
    let line = job(json!({})).to_string() + "\n";
    assert_eq!(lines(&app, PATH, &[], line.repeat(5000 / line.len())).await.status, 202);
    let problem =
        lines(&app, PATH, &[], line.repeat(5000 / line.len() + 1)).await.problem(ProblemType::ContentTooLarge);
    assert_eq!(problem["limit_bytes"], 5000);
    let long = job(json!({"metadata": {"a": "x".repeat(2000)}}));
    let problem = lines(&app, PATH, &[], format!("{line}{long}")).await.problem(ProblemType::ContentTooLarge);
    assert_eq!((&problem["limit_bytes"], &problem["line"]), (&json!(2000), &json!(2)));
    let refused = lines(&app, PATH, &[("content-encoding", "br")], line).await;
    refused.problem(ProblemType::UnsupportedMediaType);
    assert_eq!(refused.header("accept-encoding"), "gzip, zstd");
    app.send(request(Method::POST, PATH, &[("content-type", "text/csv")], Body::from("a")))
        .await
        .problem(ProblemType::UnsupportedMediaType);
}

#[tokio::test]
async fn a_request_that_breaks_off_leaves_nothing_and_its_key_is_good() {
    let app = TestApp::start().await;
    let key = [("idempotency-key", "k")];
    let body = format!("{}\n", job(json!({}))).repeat(3);
    let pieces = [Ok(Bytes::from(body.clone())), Err(std::io::Error::other("gone"))];
    lines(&app, PATH, &key, Body::from_stream(stream::iter(pieces))).await.problem(ProblemType::MalformedRequest);
    let first = lines(&app, PATH, &key, body.clone()).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (202, ""));
    let again = lines(&app, PATH, &key, body.clone()).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
    assert_eq!(again.json()["id"], first.json()["id"]);
    lines(&app, PATH, &key, body.clone() + &body).await.problem(ProblemType::IdempotencyKeyReused);
    lines(&app, "/v1/batches?partial=true", &key, body).await.problem(ProblemType::IdempotencyKeyReused);
    assert_eq!(app.get("/v1/jobs").await.json()["items"].as_array().expect("items").len(), 3);
}

#[tokio::test]
async fn an_open_batch_takes_more_until_it_is_sealed() {
    let app = TestApp::start().await;
    let batch = app.post(PATH, &[], json!({"sealed": false})).await.json();
    let own = batch["links"]["self"].as_str().expect("a link").to_owned();
    assert_eq!((&batch["total"], &batch["sealed"]), (&json!(0), &json!(false)));
    let more = format!("{own}/jobs");
    let answer = lines(&app, &more, &[], job(json!({})).to_string()).await;
    assert_eq!((answer.status, &answer.json()["total"]), (202, &json!(1)));
    let answer =
        app.post(&more, &[], json!({"defaults": {"kind": factory::KIND}, "jobs": [{"payload": {"value": 2}}]})).await;
    assert_eq!((answer.status, &answer.json()["total"]), (202, &json!(2)));
    app.post(&more, &[], json!({"jobs": []})).await.problem(ProblemType::Validation);
    app.post(&more, &[], json!({"sealed": true, "jobs": [job(json!({}))]})).await.problem(ProblemType::Validation);
    let sealed = app.post(&format!("{own}/seal"), &[], "").await;
    assert_eq!((sealed.status, &sealed.json()["sealed"]), (202, &json!(true)));
    app.post(&more, &[], json!({"jobs": [job(json!({}))]})).await.problem(ProblemType::BatchSealed);
    let key = [("idempotency-key", "k")];
    app.post(&more, &key, json!({"jobs": [job(json!({}))]})).await.problem(ProblemType::BatchSealed);
    let nowhere = format!("{PATH}/{}", offload_common::job::BatchId::new());
    for path in ["", "/jobs", "/seal", "/cancel", "/retry"] {
        let body = if path == "/jobs" { json!({"jobs": [job(json!({}))]}).to_string() } else { String::new() };
        let method = if path.is_empty() { Method::GET } else { Method::POST };
        let headers = [("content-type", "application/json")];
        app.send(request(method, &format!("{nowhere}{path}"), &headers, Body::from(body)))
            .await
            .problem(ProblemType::NotFound);
    }
}

#[tokio::test]
async fn a_batch_is_followed_cancelled_and_repeated() {
    let app = TestApp::start().await;
    let body = json!({"follow_up": job(json!({"tags": ["after"]})), "jobs": vec![job(json!({})); 3]});
    let batch = app.post(PATH, &[], body).await.json();
    let own = batch["links"]["self"].as_str().expect("a link").to_owned();
    let ids: Vec<_> =
        jobs(&app, &batch).await.iter().map(|job| job["id"].as_str().expect("an id").parse().expect("an id")).collect();
    app.run(ids[0], Event::Succeed, Some(factory::raw("1"))).await;
    let failure = Failure { code: "boom".into(), message: "it broke".into(), retry: Retry::Never };
    app.run(ids[1], Event::Fail(failure), None).await;
    let now = app.get(&own).await.json();
    assert_eq!(now["errors"][0]["job"], json!(ids[1]));
    assert_eq!(now["errors"][0]["error"]["code"], "boom");
    assert!(now["progress"]["fraction"].as_f64().is_some_and(|fraction| (0.66..0.67).contains(&fraction)), "{now:#}");
    assert!(now["follow_up_job"].is_null() && now["eta_seconds"].is_number());

    let cancelled = app.post(&format!("{own}/cancel"), &[], "").await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text());
    let over = cancelled.json();
    assert_eq!((&over["counts"]["cancelled"], &over["progress"]["fraction"]), (&json!(1), &json!(1.0)));
    assert!(!over["finished_at"].is_null());
    let follow_up = app.get(&format!("/v1/jobs/{}", over["follow_up_job"].as_str().expect("an id"))).await.json();
    assert_eq!((&follow_up["tags"], &follow_up["batch_id"]), (&json!(["after"]), &Value::Null));
    let repeated = app.post(&format!("{own}/retry"), &[], "").await.json();
    assert_eq!(
        (&repeated["total"], &repeated["counts"]["queued"], &repeated["follow_up_job"]),
        (&json!(4), &json!(1), &over["follow_up_job"])
    );
    assert_eq!(app.post(&format!("{own}/retry"), &[], "").await.json()["total"], 4, "once");
    for path in ["cancel", "retry", "seal"] {
        app.post(&format!("{own}/{path}"), &[], r#"{"a": 1}"#).await.problem(ProblemType::Validation);
    }
}

#[tokio::test]
async fn batches_are_listed_in_pages() {
    let app = TestApp::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, app.post(PATH, &[], json!({"jobs": [job(json!({}))]})).await.json()["id"].clone());
    }
    let page = app.get("/v1/batches?limit=2&finished=false").await;
    let listed = |page: &Answer| {
        page.json()["items"].as_array().expect("items").iter().map(|batch| batch["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&page), ids[..2]);
    let next = page.header("link").split_once('>').expect("a link").0.trim_start_matches('<').to_owned();
    assert_eq!(listed(&app.get(&next).await), ids[2..]);
    assert!(listed(&app.get("/v1/batches?finished=true").await).is_empty());
    app.get("/v1/batches?finished=1&cursor=x").await.problem(ProblemType::InvalidParameter);
}

#[tokio::test]
async fn a_database_that_is_away_is_told() {
    let app = TestApp::start().await;
    app.store.close().await;
    lines(&app, PATH, &[], job(json!({})).to_string()).await.problem(ProblemType::DatabaseUnavailable);
}
