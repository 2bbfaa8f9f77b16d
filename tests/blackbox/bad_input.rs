//! Whatever a client sends wrong: a clear problem document, and nothing changed.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    a_body_that_is_not_a_job_is_refused
    a_job_that_is_not_valid_is_refused_by_pointer
    everything_wrong_is_told_at_once
    a_bad_idempotency_key_is_refused
    an_upload_over_the_limit_leaves_nothing
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend)
        .with("OFFLOAD_SERVER__MAX_BODY_BYTES", "20000")
        .with("OFFLOAD_FILES__MAX_BYTES", "100000")
        .start()
        .await
}

fn raw(client: &Client, content_type: &str, body: impl Into<Vec<u8>>) -> RequestBuilder {
    client.request(Method::POST, "/v1/jobs").header("content-type", content_type).body(body.into())
}

/// No row came of any of it.
async fn nothing_was_written(client: &Client) {
    let list = client.get("/v1/jobs?limit=1000").await.expect(200).json();
    assert_eq!(list["items"], json!([]));
}

async fn a_body_that_is_not_a_job_is_refused(stack: &Stack) {
    let client = stack.client();
    let good = r#"{"kind": "echo", "payload": {}}"#;
    let deep = format!(r#"{{"kind": "echo", "payload": {{"value": {}1{}}}}}"#, "[".repeat(2000), "]".repeat(2000));
    let long = format!(r#"{{"kind": "echo", "payload": {{"value": "{}"}}}}"#, "x".repeat(30_000));
    for (content_type, body, status) in [
        ("application/json", "", 400),
        ("application/json", "{", 400),
        ("application/json", "{\"kind\": \"echo\", \"payload\": {}} and more", 400),
        ("application/json", "{'kind': 'echo'}", 400),
        ("application/json", "{\"kind\": \"echo\", \"payload\": {\"value\": NaN}}", 400),
        ("application/json", deep.as_str(), 400),
        ("application/json", long.as_str(), 413),
        ("text/plain", good, 415),
        ("application/x-www-form-urlencoded", good, 415),
        ("", good, 415),
        ("application/json", "[]", 422),
        ("application/json", "null", 422),
        ("application/json", "\"echo\"", 422),
        ("application/json", "{}", 422),
    ] {
        client.send(raw(client, content_type, body)).await.problem(status);
    }
    client.send(raw(client, "application/json", *b"{\"kind\": \"echo\", \"payload\": \"\xff\"}")).await.problem(400);
    nothing_was_written(client).await;
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {problem}"));
    errors.iter().map(|error| error["pointer"].as_str().unwrap_or_else(|| panic!("no pointer: {problem}"))).collect()
}

async fn a_job_that_is_not_valid_is_refused_by_pointer(stack: &Stack) {
    let client = stack.client();
    let echo = |member: &str, value: Value| {
        let mut body = json!({"kind": "echo", "payload": {}});
        body[member] = value;
        body
    };
    for (body, pointer) in [
        (json!({"payload": {}}), "/kind"),
        (json!({"kind": "echo"}), "/payload"),
        (json!({"kind": "no.such.kind", "payload": {}}), "/kind"),
        (json!({"kind": 7, "payload": {}}), "/kind"),
        (json!({"kind": "", "payload": {}}), "/kind"),
        (echo("payload", json!([])), "/payload"),
        (echo("payload", json!({"sleep_seconds": "long"})), "/payload/sleep_seconds"),
        (echo("payload", json!({"sleep_seconds": -1})), "/payload/sleep_seconds"),
        (echo("payload", json!({"value": {"deep": ["\u{0}"]}})), "/payload/value/deep/0"),
        (echo("queue", json!("nowhere")), "/queue"),
        (echo("priority", json!("urgent")), "/priority"),
        (echo("max_attempts", json!(0)), "/max_attempts"),
        (echo("max_attempts", json!(101)), "/max_attempts"),
        (echo("max_attempts", json!(1.5)), "/max_attempts"),
        (echo("timeout_seconds", json!(0)), "/timeout_seconds"),
        (echo("timeout_seconds", json!(1e12)), "/timeout_seconds"),
        (echo("delay_seconds", json!(-1)), "/delay_seconds"),
        (echo("run_at", json!("tomorrow")), "/run_at"),
        (echo("run_at", json!("2026-02-30T00:00:00Z")), "/run_at"),
        (echo("metadata", json!([1])), "/metadata"),
        (echo("tags", json!("red")), "/tags"),
        (echo("tags", json!([7])), "/tags/0"),
        (json!({"kind": "image.transform", "payload": {"outputs": []}}), "/payload"),
        (json!({"kind": "http.call", "payload": {"method": "GET"}}), "/payload"),
    ] {
        let problem = client.post("/v1/jobs", &body).await.problem(422);
        let pointers = pointers(&problem);
        assert!(pointers.iter().any(|found| found.starts_with(pointer)), "{pointer} is wrong in {body}: {problem}");
    }
    let unknown = client.post("/v1/jobs", &echo("prioritty", json!("high"))).await.problem(422);
    assert_eq!(pointers(&unknown), ["/prioritty"], "a misspelt member is not overlooked");
    let both = json!({"kind": "echo", "payload": {}, "delay_seconds": 1, "run_at": "2027-01-01T00:00:00Z"});
    client.post("/v1/jobs", &both).await.problem(422);
    let problem = client.post("/v1/jobs", &json!({"kind": "no.such.kind", "payload": {}})).await.problem(422);
    assert!(problem.to_string().contains("image.transform"), "it lists the kinds there are: {problem}");
    nothing_was_written(client).await;
}

async fn everything_wrong_is_told_at_once(stack: &Stack) {
    let body = json!({"kind": "echo", "payload": {"sleep_seconds": -1}, "queue": "x", "max_attempts": 0, "tags": 1});
    let problem = stack.client().post("/v1/jobs", &body).await.problem(422);
    let mut pointers = pointers(&problem);
    pointers.sort_unstable();
    assert_eq!(pointers, ["/max_attempts", "/payload/sleep_seconds", "/queue", "/tags"]);
    nothing_was_written(stack.client()).await;
}

async fn a_bad_idempotency_key_is_refused(stack: &Stack) {
    let client = stack.client();
    let good = json!({"kind": "echo", "payload": {}});
    let send = async |key: &str| -> Answer {
        client.send(client.request(Method::POST, "/v1/jobs").header("idempotency-key", key).json(&good)).await
    };
    for key in ["", "\"\"", "\"open", "two words", &"k".repeat(256)] {
        send(key).await.problem(400);
    }
    nothing_was_written(client).await;
}

async fn an_upload_over_the_limit_leaves_nothing(stack: &Stack) {
    let client = stack.client();
    let files = || -> usize {
        let mut folders = vec![stack.folder().join("files"), stack.folder().join("data").join("files")];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { folders.push(entry.path()) } else { count += 1 }
            }
        }
        count
    };
    let request = client.request(Method::POST, "/v1/files").header("content-type", "text/plain");
    client.send(request.body(vec![b'x'; 100_001])).await.problem(413);
    assert_eq!(files(), 0);
    client.upload("text/plain", vec![b'x'; 100_000]).await;
    assert_eq!(files(), 1);
}
