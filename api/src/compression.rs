//! Answers on their way out: text is compressed for who takes it so.

use axum::extract::Request;
use axum::http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_TYPE, ETAG};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, Predicate, SizeAbove};

/// A shorter answer fits into a packet as it is.
const MIN_BYTES: u16 = 1_024;

/// What the tag of a compressed answer ends in: it is another representation of the same.
const SUFFIXES: [&str; 2] = ["-gzip", "-zstd"];

/// Decides by what is known before the body.
type Judge = fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool;

/// Compresses what is text, and worth it, in the way that the client likes best.
pub(crate) fn layer() -> CompressionLayer<And<SizeAbove, Judge>> {
    let judge: Judge = |_, _, headers, _| is_text(headers);
    // An answer is made for one client: the time it takes counts more than the last byte.
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(MIN_BYTES).and(judge))
}

/// Streams of events have to arrive at once, and files, which can be read in ranges, as they were stored.
fn is_text(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    let text = match essence.split_once('/') {
        Some(("text", kind)) => kind != "event-stream",
        Some(("application", kind)) => kind == "json" || kind.ends_with("+json"),
        _ => false,
    };
    text && !headers.contains_key(ACCEPT_RANGES)
}

/// Gives a compressed answer a strong tag of its own; weak ones cover every encoding.
pub(crate) async fn tag(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(encoding) = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok())
        && let Some(opaque) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"'))
        && let Ok(tag) = HeaderValue::try_from(format!("\"{opaque}-{encoding}\""))
    {
        headers.insert(ETAG, tag);
    }
    response
}

/// Whether a client's tag is this strong one, or was made of it.
pub(crate) fn is_tag_of(given: &str, known: &str) -> bool {
    fn bare(tag: &str) -> Option<&str> {
        let tag = tag.strip_suffix('"')?;
        SUFFIXES.iter().find_map(|suffix| tag.strip_suffix(suffix)).or(Some(tag))
    }
    bare(given).is_some_and(|given| bare(known) == Some(given))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;
    use axum::http::header::{CONTENT_LENGTH, VARY};
    use offload_common::job::transition::Event;
    use serde_json::json;

    use crate::testing::packed::{gunzip, gzip, unzstd};
    use crate::testing::{Answer, TestApp, request};

    async fn read(app: &TestApp, path: &str, accept: &str) -> Answer {
        app.send(request(Method::GET, path, &[("accept-encoding", accept)], Body::empty())).await
    }

    #[tokio::test]
    async fn text_is_compressed_for_who_takes_it() {
        let app = TestApp::start_with(|settings| settings.demo = true).await;
        for path in ["/openapi.json", "/docs/docs.js", "/demo/", "/demo/demo.js", "/demo/demo.css"] {
            let plain = app.get(path).await;
            assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"), "{path}");
            for (accept, encoding) in
                [("gzip", "gzip"), ("zstd", "zstd"), ("gzip;q=0.5, zstd", "zstd"), ("br, gzip;q=0.1", "gzip")]
            {
                let packed = read(&app, path, accept).await;
                assert_eq!((packed.status, packed.header("content-encoding")), (200, encoding), "{path} {accept}");
                assert_eq!(packed.header("content-type"), plain.header("content-type"));
                assert!(packed.headers.get(CONTENT_LENGTH).is_none() && packed.headers.contains_key(VARY));
                assert!(packed.body.len() < plain.body.len());
                let body = if encoding == "gzip" { gunzip(&packed.body).await } else { unzstd(&packed.body).await };
                assert_eq!(body, plain.body, "{path} {accept}");
            }
            for accept in ["br", "identity", "gzip;q=0", ""] {
                assert_eq!(read(&app, path, accept).await.body, plain.body, "{path} {accept}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_short_a_picture_or_a_file_is_not() {
        let app = TestApp::start_with(|settings| settings.demo = true).await;
        let sent = request(Method::POST, "/v1/files", &[("content-type", "text/plain")], Body::from("a".repeat(5_000)));
        let file = app.send(sent).await;
        for path in ["/livez", "/demo/sample.jpg", file.header("location")] {
            let answer = read(&app, path, "gzip, zstd").await;
            assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{path}");
        }
    }

    #[tokio::test]
    async fn a_stream_of_events_is_not() {
        let app = TestApp::start().await;
        let long = "x".repeat(5_000);
        let job = app.submit(json!({"payload": {"value": 1, "name": long}})).await;
        let path = format!("/v1/jobs/{job}");
        assert_eq!(read(&app, &path, "gzip").await.header("content-encoding"), "gzip");
        app.run(job, Event::Succeed, None).await;
        let stream = read(&app, &format!("{path}/events"), "gzip").await;
        assert_eq!((stream.status, stream.header("content-encoding")), (200, ""));
        assert!(stream.text().contains("succeeded"));
    }

    #[tokio::test]
    async fn a_compressed_answer_has_a_tag_of_its_own_that_names_the_same_version() {
        let app = TestApp::start().await;
        let long = "x".repeat(5_000);
        let schedule = json!({"name": "hourly", "every_seconds": 3600, "job": {"kind": "test.kind", "payload": {"value": 1, "name": long}}});
        let made = app.post("/v1/schedules", &[], schedule).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let path = made.header("location").to_owned();
        let packed = read(&app, &path, "zstd").await;
        assert_eq!((packed.header("etag"), made.header("etag")), ("\"1-zstd\"", "\"1\""));
        let pause = format!("{path}/pause");
        let wrong = app.send(request(Method::POST, &pause, &[("if-match", "\"2-zstd\"")], Body::empty())).await;
        assert_eq!(wrong.status, 412, "{}", wrong.text());
        let right = app.send(request(Method::POST, &pause, &[("if-match", "\"1-zstd\"")], Body::empty())).await;
        assert_eq!(right.status, 200, "{}", right.text());
    }

    #[tokio::test]
    async fn a_request_is_the_same_however_it_is_compressed() {
        let app = TestApp::start().await;
        let body = json!({"kind": "test.kind", "payload": {"value": 1}}).to_string();
        let plain = app.post("/v1/jobs", &[("idempotency-key", "k")], &body).await;
        let headers = [("content-type", "application/json"), ("content-encoding", "gzip"), ("idempotency-key", "k")];
        let again = request(Method::POST, "/v1/jobs", &headers, Body::from(gzip(body.as_bytes()).await));
        let again = app.send(again).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"), "{}", again.text());
        assert_eq!(again.json()["id"], plain.json()["id"]);
    }
}
