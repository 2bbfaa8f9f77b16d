//! Calls to real servers on the loopback, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use offload_common::job::JobId;
use offload_common::job::transition::{Failure, Retry};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::outbound::USER_AGENT;
use super::*;

const LIMIT: u64 = 1000;

fn http_call(allow: &[&str]) -> HttpCall {
    let allow = allow.iter().map(|net| net.parse().expect("a network")).collect();
    HttpCall::new(&EgressConfig { allow, max_response_bytes: LIMIT })
}

/// Serves until the test's runtime ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers with what it was asked.
async fn mirror(method: Method, headers: HeaderMap, body: String) -> impl IntoResponse {
    let headers: BTreeMap<_, _> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
    axum::Json(json!({"method": method.as_str(), "headers": headers, "body": body}))
}

async fn run(kind: &HttpCall, payload: Value) -> Result<Value, Failure> {
    let payload: Payload = serde_json::from_str(&payload.to_string()).expect("fits");
    let outcome = async {
        let target = kind.outbound.target(&payload.url)?;
        let request = Request::new(&payload, JobId::new(), None)?;
        kind.call_within(payload.timeout_seconds, request, target).await
    };
    match outcome.await {
        Ok(output) => Ok(serde_json::from_str(&serde_json::to_string(&output).expect("serializes")).expect("JSON")),
        Err(JobError::Failed(failure)) => Err(failure),
        Err(other) => panic!("{other:?}"),
    }
}

async fn code(kind: &HttpCall, payload: Value) -> (String, Retry) {
    let failure = run(kind, payload).await.expect_err("fails");
    (failure.code, failure.retry)
}

#[tokio::test]
async fn a_request_arrives_as_the_payload_says() {
    let server = serve(Router::new().route("/{*path}", any(mirror))).await;
    let kind = http_call(&["127.0.0.0/8"]);
    let payload =
        json!({"method": "PATCH", "url": format!("http://{server}/a?b=c"), "headers": {"X-A": "1"}, "body": "text"});
    let output = run(&kind, payload).await.expect("answers");
    assert_eq!(output["status"], 200);
    assert_eq!(output["headers"]["content-type"], "application/json");
    assert_eq!(output["json"]["method"], "PATCH");
    assert_eq!(output["json"]["body"], "text");
    assert_eq!(output["json"]["headers"]["x-a"], "1");
    assert_eq!(output["json"]["headers"]["user-agent"], USER_AGENT);
    assert!(output["json"]["headers"]["idempotency-key"].is_string());
}

#[tokio::test]
async fn the_loopback_is_refused_unless_allowed() {
    let server = serve(Router::new().route("/", get(|| async { "secret" }))).await;
    let kind = http_call(&[]);
    for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
        let payload = json!({"method": "GET", "url": format!("http://{host}:{}/", server.port())});
        assert_eq!(code(&kind, payload).await, ("egress_refused".to_owned(), Retry::Never), "{host}");
    }
    let named = json!({"method": "GET", "url": format!("http://localhost:{}/", server.port())});
    assert_eq!(run(&http_call(&["127.0.0.0/8"]), named).await.expect("allowed")["body"], "secret");
}

#[tokio::test]
async fn every_hop_is_checked() {
    let router = Router::new()
        .route("/metadata", get(|| async { Redirect::temporary("http://169.254.169.254/latest/meta-data/") }))
        .route("/six", get(|| async { Redirect::temporary("http://[::1]/") }))
        .route("/file", get(|| async { Redirect::temporary("file:///etc/passwd") }));
    let server = serve(router).await;
    let kind = http_call(&["127.0.0.0/8"]);
    for path in ["metadata", "six", "file"] {
        let payload = json!({"method": "GET", "url": format!("http://{server}/{path}")});
        assert_eq!(code(&kind, payload).await, ("egress_refused".to_owned(), Retry::Never), "{path}");
    }
}

#[tokio::test]
async fn five_redirects_are_followed_and_no_sixth() {
    let hop = |Path(left): Path<u32>| async move {
        if left == 0 { "arrived".into_response() } else { Redirect::to(&(left - 1).to_string()).into_response() }
    };
    let server = serve(Router::new().route("/{left}", get(hop))).await;
    let kind = http_call(&["127.0.0.0/8"]);
    let payload = |hops: u32| json!({"method": "GET", "url": format!("http://{server}/{hops}")});
    let output = run(&kind, payload(5)).await.expect("arrives");
    assert_eq!((&output["body"], &output["url"]), (&json!("arrived"), &json!(format!("http://{server}/0"))));
    assert_eq!(code(&kind, payload(6)).await, ("too_many_redirects".to_owned(), Retry::Never));
}

#[tokio::test]
async fn a_redirect_to_another_origin_takes_no_credentials_along() {
    let elsewhere = serve(Router::new().route("/", any(mirror))).await;
    let target = format!("http://{elsewhere}/");
    let server = serve(Router::new().route("/", any(move || async move { Redirect::temporary(&target) }))).await;
    let payload = json!({
        "method": "POST", "url": format!("http://{server}/"), "json": {"a": 1},
        "headers": {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "text/x"},
    });
    let output = run(&http_call(&["127.0.0.0/8"]), payload).await.expect("answers");
    let seen = &output["json"];
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!(r#"{"a":1}"#)));
    assert_eq!(seen["headers"]["accept"], "text/x");
    for secret in ["authorization", "cookie", "x-api-key"] {
        assert_eq!(seen["headers"].get(secret), None, "{secret}");
    }
}

#[tokio::test]
async fn statuses_become_outcomes() {
    let answer = |Path(status): Path<u16>| async move {
        (StatusCode::from_u16(status).expect("a status"), [(header::RETRY_AFTER, "7")], "why")
    };
    let server = serve(Router::new().route("/{status}", any(answer))).await;
    let kind = http_call(&["127.0.0.0/8"]);
    let payload = |status: u16| json!({"method": "GET", "url": format!("http://{server}/{status}")});
    for status in [200, 201, 204, 304] {
        assert_eq!(run(&kind, payload(status)).await.expect("success")["status"], status);
    }
    for (status, retry) in
        [(404, Retry::Never), (429, Retry::After(Duration::from_secs(7))), (503, Retry::After(Duration::from_secs(7)))]
    {
        let failure = run(&kind, payload(status)).await.expect_err("fails");
        assert_eq!((failure.code.as_str(), failure.retry), ("http_status", retry));
        assert!(
            failure.message.contains(&status.to_string()) && failure.message.ends_with("why"),
            "{}",
            failure.message
        );
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_kept() {
    let of_length = |Path(length): Path<usize>| async move { "x".repeat(length) };
    // Without a length, in pieces and without an end.
    let endless = || async {
        let piece = Ok::<_, std::convert::Infallible>("y".repeat(100));
        Body::from_stream(futures_util::stream::repeat(piece))
    };
    let server = serve(Router::new().route("/{length}", get(of_length)).route("/endless", get(endless))).await;
    let kind = http_call(&["127.0.0.0/8"]);
    let payload = |path: &str| json!({"method": "GET", "url": format!("http://{server}/{path}")});
    assert_eq!(run(&kind, payload("1000")).await.expect("fits")["body"], "x".repeat(1000));
    for path in ["1001", "endless"] {
        assert_eq!(code(&kind, payload(path)).await, ("response_too_large".to_owned(), Retry::Never), "{path}");
    }
}

#[tokio::test]
async fn silence_and_absence_are_tried_again() {
    // A listener that accepts nothing: the connection stands, and no answer comes.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("bound");
    let kind = http_call(&["127.0.0.0/8"]);
    let payload = json!({"method": "GET", "url": format!("http://{address}/?key=secret"), "timeout_seconds": 0.1});
    let failure = run(&kind, payload.clone()).await.expect_err("times out");
    assert_eq!((failure.code.as_str(), failure.retry), ("http_timeout", Retry::Backoff));
    assert!(!failure.message.contains("secret"), "{}", failure.message);
    drop(silent);
    let failure = run(&kind, json!({"method": "GET", "url": payload["url"]})).await.expect_err("refused");
    assert_eq!((failure.code.as_str(), failure.retry), ("connection", Retry::Backoff));
    assert!(!failure.message.contains("secret"), "{}", failure.message);
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let spec = http_call(&[]).spec();
    let catalog = offload_common::kind::KindCatalog::new([spec]).expect("compiles");
    let pointers = |payload: Value| {
        let found = catalog.violations("http.call", &payload).expect("known");
        found.into_iter().map(|violation| violation.pointer).collect::<Vec<_>>()
    };
    assert!(pointers(json!({"method": "GET", "url": "https://example.com"})).is_empty());
    assert!(pointers(json!({"method": "POST", "url": "HTTP://a", "json": null, "headers": {"A-b": "c"}})).is_empty());
    for (payload, pointer) in [
        (json!({"url": "https://example.com"}), "/method"),
        (json!({"method": "get", "url": "https://example.com"}), "/method"),
        (json!({"method": "TRACE", "url": "https://example.com"}), "/method"),
        (json!({"method": 1, "url": "https://example.com"}), "/method"),
        (json!({"method": "GET", "url": "ftp://example.com"}), "/url"),
        (json!({"method": "GET", "url": "http://a", "headers": {"a b": "c"}}), "/headers"),
        (json!({"method": "GET", "url": "http://a", "headers": {"a": 1}}), "/headers/a"),
        (json!({"method": "GET", "url": "http://a", "body": {}}), "/body"),
        (json!({"method": "GET", "url": "http://a", "body": "", "json": 1}), ""),
        (json!({"method": "GET", "url": "http://a", "timeout_seconds": 0}), "/timeout_seconds"),
        (json!({"method": "GET", "url": "http://a", "follow": true}), "/follow"),
    ] {
        assert_eq!(pointers(payload.clone()), [pointer], "{payload}");
    }
}
