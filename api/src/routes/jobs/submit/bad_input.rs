//! Requests that are wrong: each gets its problem, and nothing is stored.

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;
use offload_common::store::Store;
use offload_common::testing::factory;
use serde_json::{Value, json};

use crate::problem::ProblemType;
use crate::testing::{TestApp, request};

/// Bodies that are JSON but wrong, with every pointer that must be named.
fn invalid() -> Vec<(Value, Vec<&'static str>)> {
    let with = |more: Value| {
        let mut body = json!({"kind": "test.kind", "payload": {"value": 1}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    vec![
        (json!([]), vec![""]),
        (json!(null), vec![""]),
        (json!("text"), vec![""]),
        (json!({}), vec!["/kind", "/payload"]),
        (json!({"kind": "test.kind"}), vec!["/payload"]),
        (json!({"payload": {}}), vec!["/kind"]),
        (with(json!({"kind": 1})), vec!["/kind"]),
        (with(json!({"kind": null})), vec!["/kind"]),
        (with(json!({"kind": "nonesuch"})), vec!["/kind"]),
        (with(json!({"kind": ""})), vec!["/kind"]),
        (with(json!({"payload": {}})), vec!["/payload/value"]),
        (with(json!({"payload": null})), vec!["/payload"]),
        (with(json!({"payload": [1]})), vec!["/payload"]),
        (with(json!({"payload": {"value": "x", "name": 1}})), vec!["/payload/name", "/payload/value"]),
        (with(json!({"payload": {"value": 1, "a/b~": 1}})), vec!["/payload/a~1b~0"]),
        (with(json!({"payload": {"value": 1, "name": "a\0b"}})), vec!["/payload/name"]),
        (
            with(json!({"unknown": 1, "callback": {}, "unique_key": ""})),
            vec!["/callback/secret", "/callback/url", "/unique_key", "/unknown"],
        ),
        (with(json!({"unique_key": 1})), vec!["/unique_key"]),
        (with(json!({"unique_key": "k".repeat(201)})), vec!["/unique_key"]),
        (with(json!({"unique_key": "k", "on_conflict": "ask"})), vec!["/on_conflict"]),
        (with(json!({"unique_key": "k", "ref": "a"})), vec!["/unique_key"]),
        (with(json!({"unique_key": "k", "after": ["0199f6c2-0000-7000-8000-000000000000"]})), vec!["/unique_key"]),
        (with(json!({"on_conflict": "replace"})), vec!["/on_conflict"]),
        (with(json!({"Kind": 1})), vec!["/Kind"]),
        (with(json!({"queue": "nonesuch"})), vec!["/queue"]),
        (with(json!({"queue": 1})), vec!["/queue"]),
        (with(json!({"priority": "urgent"})), vec!["/priority"]),
        (with(json!({"priority": 1})), vec!["/priority"]),
        (with(json!({"run_at": "tomorrow"})), vec!["/run_at"]),
        (with(json!({"run_at": "2026-11-23"})), vec!["/run_at"]),
        (with(json!({"run_at": "2026-11-23T09:30:00"})), vec!["/run_at"]),
        (with(json!({"run_at": "2026-02-30T09:30:00Z"})), vec!["/run_at"]),
        (with(json!({"run_at": 1_790_000_000})), vec!["/run_at"]),
        (with(json!({"run_at": "2999-01-01T00:00:00Z", "delay_seconds": 1})), vec!["/delay_seconds"]),
        (with(json!({"delay_seconds": -1})), vec!["/delay_seconds"]),
        (with(json!({"delay_seconds": 1e300})), vec!["/delay_seconds"]),
        (with(json!({"delay_seconds": "5"})), vec!["/delay_seconds"]),
        (with(json!({"max_attempts": 0})), vec!["/max_attempts"]),
        (with(json!({"max_attempts": 101})), vec!["/max_attempts"]),
        (with(json!({"max_attempts": -1})), vec!["/max_attempts"]),
        (with(json!({"max_attempts": 1.5})), vec!["/max_attempts"]),
        (with(json!({"max_attempts": u64::MAX})), vec!["/max_attempts"]),
        (with(json!({"timeout_seconds": 0})), vec!["/timeout_seconds"]),
        (with(json!({"timeout_seconds": 86_401})), vec!["/timeout_seconds"]),
        (with(json!({"timeout_seconds": "60"})), vec!["/timeout_seconds"]),
        (with(json!({"tags": "x"})), vec!["/tags"]),
        (with(json!({"tags": vec!["x"; 17]})), vec!["/tags"]),
        (with(json!({"tags": ["x", "", 1, "y".repeat(65), "\0"]})), vec!["/tags/1", "/tags/2", "/tags/3", "/tags/4"]),
        (with(json!({"metadata": []})), vec!["/metadata"]),
        (with(json!({"metadata": "x"})), vec!["/metadata"]),
        (with(json!({"metadata": {"a": "x".repeat(17_000)}})), vec!["/metadata"]),
        (with(json!({"metadata": {"a": ["\0"], "b\0": 1}})), vec!["/metadata/a/0", "/metadata/b\0"]),
        (
            json!({"kind": "nonesuch", "queue": "q", "priority": "p", "max_attempts": 0, "tags": 1, "x": 1}),
            vec!["/kind", "/max_attempts", "/payload", "/priority", "/queue", "/tags", "/x"],
        ),
    ]
}

#[tokio::test]
async fn everything_that_is_wrong_is_named_at_once_and_nothing_is_stored() {
    let app = TestApp::start().await;
    for (body, expected) in invalid() {
        let answer = app.post("/v1/jobs", &[], &body).await;
        let problem = answer.problem(ProblemType::Validation);
        let errors = problem["errors"].as_array().expect("errors");
        let mut pointers: Vec<_> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
        pointers.sort_unstable();
        assert_eq!(pointers, expected, "{body}");
        assert!(errors.iter().all(|error| error["detail"].as_str().is_some_and(|text| !text.is_empty())));
    }
    assert!(app.store.jobs(&factory::filter()).await.expect("listed").is_empty());
}

#[tokio::test]
async fn unknown_names_come_with_the_known_ones() {
    let app = TestApp::start().await;
    let body = json!({"kind": "nonesuch", "payload": {}, "queue": "nonesuch"});
    let problem = app.post("/v1/jobs", &[], body).await.problem(ProblemType::Validation);
    let details = problem["errors"].to_string();
    assert!(details.contains("the kinds are test.kind"), "{details}");
    assert!(details.contains("the queues are default, reports"), "{details}");
}

#[tokio::test]
async fn a_repeated_member_is_wrong() {
    let app = TestApp::start().await;
    let body = r#"{"kind": "test.kind", "payload": {"value": 1}, "tags": [], "kind": "test.kind"}"#;
    let problem = app.post("/v1/jobs", &[], body).await.problem(ProblemType::Validation);
    assert_eq!(problem["errors"], json!([{"pointer": "/kind", "detail": "is given more than once"}]));
}

#[tokio::test]
async fn what_is_not_json_is_told_with_its_place() {
    let app = TestApp::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<(Bytes, Option<(u64, u64)>)> = vec![
        (Bytes::new(), None),
        ("   ".into(), Some((1, 3))),
        ("{".into(), Some((1, 1))),
        ("{\n  \"kind\": }".into(), Some((2, 11))),
        ("{} x".into(), Some((1, 4))),
        ("{}{}".into(), Some((1, 3))),
        ("{'kind': 1}".into(), Some((1, 2))),
        ("{\"kind\": NaN}".into(), None),
        ("{\"kind\": 1e999}".into(), None),
        ("{\"kind\": \"\\ud800\"}".into(), None),
        ("{\"kind\": \"a\nb\"}".into(), None),
        (Bytes::from_static(b"{\"kind\": \"\xff\"}"), None),
        (Bytes::from_static(b"\xef\xbb\xbf{}"), None),
        (Bytes::from_static(b"\xff\xfe{\x00}\x00"), None),
        (deep.into(), Some((1, 128))),
        (format!("{}1{}", "{\"a\":".repeat(1000), "}".repeat(1000)).into(), None),
    ];
    for (body, place) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let headers = [("content-type", "application/json")];
        let answer = app.send(request(Method::POST, "/v1/jobs", &headers, Body::from(body))).await;
        let problem = answer.problem(ProblemType::MalformedJson);
        if let Some((line, column)) = place {
            assert_eq!((&problem["line"], &problem["column"]), (&json!(line), &json!(column)), "{shown}");
        }
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let app = TestApp::start().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}}).to_string();
    for (content_type, status) in [
        (Some("application/json"), 202),
        (Some("Application/JSON;charset=UTF-8"), 202),
        (Some("application/vnd.example+json"), 202),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/jsonx"), 415),
        (Some(""), 415),
        (None, 415),
    ] {
        let headers: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
        let answer = app.send(request(Method::POST, "/v1/jobs", &headers, Body::from(body.clone()))).await;
        assert_eq!(answer.status, status, "{content_type:?}");
        if status == 415 {
            answer.problem(ProblemType::UnsupportedMediaType);
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length() {
    let app = TestApp::start_with(|settings| settings.server.max_body_bytes = 100).await;
    let fitting = format!("{:<100}", r#"{"kind": "test.kind", "payload": {"value": 1}}"#);
    let too_long = format!("{fitting} ");
    assert_eq!(app.post("/v1/jobs", &[], fitting).await.status, 202);
    let problem = app.post("/v1/jobs", &[], &too_long).await.problem(ProblemType::ContentTooLarge);
    assert_eq!(problem["limit_bytes"], 100);
    let pieces = too_long
        .into_bytes()
        .chunks(10)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect::<Vec<_>>();
    let body = Body::from_stream(stream::iter(pieces));
    let headers = [("content-type", "application/json")];
    app.send(request(Method::POST, "/v1/jobs", &headers, body)).await.problem(ProblemType::ContentTooLarge);
}
