//! What came back: what it means for the job, and what of it is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use chrono::{DateTime, Utc};
use offload_common::{RawJson, clock};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::target::Target;
use crate::kind::JobError;
use crate::kinds::json;

/// The longest pause that a server's `Retry-After` can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// How much of the body of a failing response its error message quotes, in bytes.
const EXCERPT: usize = 300;

/// The response.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::kinds) struct Output {
    /// The HTTP status, 200 to 399.
    status: u16,
    /// Where it came from, after redirects.
    url: String,
    /// The headers, by lower-case name; several of one name are joined by `, `.
    headers: BTreeMap<String, String>,
    /// The body, if its content type says JSON and it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    json: Option<RawJson>,
    /// The body, if it is other text in UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body in base64, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Where a redirect leads, if the response is one.
pub(super) fn location(response: &Response) -> Option<String> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| redirects)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// Reads a response that is no redirect: at most `limit` bytes of body.
pub(super) async fn conclude(mut response: Response, target: &Target, limit: u64) -> Result<Output, JobError> {
    let (status, headers) = (response.status(), response.headers().clone());
    if status.is_client_error() || status.is_server_error() {
        let excerpt = excerpt(&mut response).await;
        return Err(failure(status, &headers, &excerpt, target, clock::now()));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let body = read(&mut response, limit).await.map_err(|(error, _)| match error {
        Broken::TooLong => {
            JobError::fail("response_too_large", format!("{target} answered with more than {limit} bytes"))
        }
        Broken::Connection(error) => JobError::retry("connection", format!("{target} broke off its answer: {error}")),
    })?;
    Ok(output(status, response.url().to_string(), &headers, body))
}

enum Broken {
    TooLong,
    Connection(reqwest::Error),
}

/// The body; or what stopped it, with what had come until then.
async fn read(response: &mut Response, limit: usize) -> Result<Vec<u8>, (Broken, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) => {
                let room = limit - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    return Err((Broken::TooLong, body));
                }
            }
            Err(error) => return Err((Broken::Connection(error), body)),
        }
    }
}

/// The beginning of the body of a failing response, for its error message.
pub(in crate::kinds) async fn excerpt(response: &mut Response) -> String {
    quoted(&read(response, EXCERPT).await.unwrap_or_else(|(_, start)| start))
}

fn quoted(start: &[u8]) -> String {
    String::from_utf8_lossy(start).replace('\0', "\u{fffd}").trim().to_owned()
}

/// How long the response asks to wait, if it does.
pub(in crate::kinds) fn pause_asked(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    headers.get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?, now))
}

/// 408, 429 and 5xx may pass; any other 4xx means that the request itself is wrong.
fn failure(status: StatusCode, headers: &HeaderMap, excerpt: &str, target: &Target, now: DateTime<Utc>) -> JobError {
    let mut message = format!("{target} answered {status}");
    if !excerpt.is_empty() {
        message = format!("{message}: {excerpt}");
    }
    let passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if !passing && !status.is_server_error() {
        return JobError::fail("http_status", message);
    }
    match pause_asked(headers, now) {
        Some(pause) => JobError::retry_after("http_status", message, pause),
        None => JobError::retry("http_status", message),
    }
}

/// How long a `Retry-After` asks to wait: seconds, or an HTTP date.
fn pause(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now.into()).unwrap_or(Duration::ZERO),
    };
    Some(asked.min(LONGEST_PAUSE))
}

fn output(status: StatusCode, url: String, headers: &HeaderMap, body: Vec<u8>) -> Output {
    let mut joined = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let entry = joined.entry(name.to_string());
        entry.and_modify(|sum| *sum = format!("{sum}, {value}")).or_insert_with(|| value.into_owned());
    }
    let mut output =
        Output { status: status.as_u16(), url, headers: joined, json: None, body: None, body_base64: None };
    match String::from_utf8(body) {
        Ok(text) if is_json(headers) && json::storable(&text).is_ok() => output.json = json::storable(&text).ok(),
        Ok(text) if !text.contains('\0') => output.body = Some(text),
        Ok(text) => output.body_base64 = Some(encode(text.as_bytes())),
        Err(error) => output.body_base64 = Some(encode(error.as_bytes())),
    }
    output
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// `application/json` and its relatives, such as `application/problem+json`.
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::transition::Retry;
    use reqwest::header::HeaderValue;
    use serde_json::{Value, json};

    fn now() -> DateTime<Utc> {
        "2026-11-23T10:00:00Z".parse().expect("a time")
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (text, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Mon, 23 Nov 2026 10:00:30 GMT", Some(30)),
            ("Mon, 23 Nov 2026 09:00:00 GMT", Some(0)),
            ("99999999999", Some(86_400)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(pause(text, now()), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_status_decides_about_a_retry() {
        let target = Target::first("https://example.com/a?b", &Default::default()).expect("allowed");
        let retry = |status, after: Option<&'static str>| {
            let headers = after.map(|text| (RETRY_AFTER, HeaderValue::from_static(text))).into_iter().collect();
            let status = StatusCode::from_u16(status).expect("a status");
            match failure(status, &headers, &quoted(b"  no\0 \n"), &target, now()) {
                JobError::Failed(failure) => {
                    assert_eq!(failure.code, "http_status");
                    let start = format!("https://example.com/a answered {status}: no");
                    assert!(failure.message.starts_with(&start), "{}", failure.message);
                    assert!(!failure.message.contains('\0'));
                    failure.retry
                }
                other => panic!("{other:?}"),
            }
        };
        for status in [400, 401, 403, 404, 409, 410, 422, 451] {
            assert_eq!(retry(status, Some("5")), Retry::Never, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(retry(status, None), Retry::Backoff, "{status}");
            assert_eq!(retry(status, Some("5")), Retry::After(Duration::from_secs(5)), "{status}");
            assert_eq!(retry(status, Some("soon")), Retry::Backoff, "{status}");
        }
    }

    #[test]
    fn a_body_is_answered_as_what_it_is() {
        let answered = |content_type: &'static str, body: &[u8]| {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(content_type))].into_iter().collect();
            let output = output(StatusCode::OK, "http://a/".to_owned(), &headers, body.to_vec());
            let mut output: Value =
                serde_json::from_str(&serde_json::to_string(&output).expect("serializes")).expect("JSON");
            let members = output.as_object_mut().expect("an object");
            assert_eq!(members.remove("headers"), Some(json!({"content-type": content_type})));
            members.remove("status");
            members.remove("url");
            output
        };
        for json_type in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert_eq!(answered(json_type, br#"{"a": 1}"#), json!({"json": {"a": 1}}));
        }
        assert_eq!(answered("application/json", b"null"), json!({"json": null}));
        assert_eq!(answered("application/json", b""), json!({"body": ""}));
        assert_eq!(answered("application/json", b"{"), json!({"body": "{"}));
        assert_eq!(answered("application/json", br#""\u0000""#), json!({"body": r#""\u0000""#}));
        assert_eq!(answered("text/plain", "é".as_bytes()), json!({"body": "é"}));
        assert_eq!(answered("text/plain", b"\xe9"), json!({"body_base64": "6Q=="}));
        assert_eq!(answered("text/plain", b"a\0"), json!({"body_base64": "YQA="}));
    }
}
