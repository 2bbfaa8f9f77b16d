//! What is sent, and how redirects change it.

use bytes::Bytes;
use offload_common::job::JobId;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode};

use super::Payload;
use super::target::Target;
use crate::kind::JobError;

/// Headers that describe the connection and not the request: the client writes them itself.
const RESERVED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers that may follow a redirect to another origin: they say what the request is, not who makes it. Any other
/// may be a secret (`Authorization`, `Cookie`, `X-Api-Key`, …).
const HARMLESS: [&str; 8] = [
    "accept",
    "accept-language",
    "content-language",
    "content-type",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "user-agent",
];

/// A request, apart from where it goes.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Request {
    /// The payload's request. What it does not say is filled in: an `Idempotency-Key` that is the same at every attempt
    /// of the job, its `traceparent`, and the type of a JSON body.
    pub(super) fn new(payload: &Payload, job: JobId, traceparent: Option<&str>) -> Result<Self, JobError> {
        let method = Method::from_bytes(payload.method.as_bytes())
            .map_err(|_| JobError::fail("invalid_method", format!("`{}` is not an HTTP method", payload.method)))?;
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(JobError::fail("invalid_method", format!("{method} is not called")));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &payload.headers {
            let (name, value) = header(name, value)?;
            headers.append(name, value);
        }
        let mut default = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.entry(name).or_insert(value);
            }
        };
        default(HeaderName::from_static("idempotency-key"), &job.to_string());
        if let Some(traceparent) = traceparent {
            default(HeaderName::from_static("traceparent"), traceparent);
        }
        let body = match (&payload.body, &payload.json) {
            (Some(_), Some(_)) => {
                return Err(JobError::fail("invalid_payload", "a request has a `body` or `json`, not both"));
            }
            (Some(text), None) => Some(Bytes::from(text.clone())),
            (None, Some(json)) => {
                default(CONTENT_TYPE, "application/json");
                Some(Bytes::from(json.get().to_owned()))
            }
            (None, None) => None,
        };
        Ok(Self { method, headers, body })
    }

    /// Changes it as a redirect asks (RFC 9110, section 15.4): 303 makes it a GET, 301 and 302 do so with a POST, and
    /// 307 and 308 leave it. To another origin only harmless headers follow.
    pub(super) fn redirect(&mut self, status: StatusCode, same_origin: bool) {
        let becomes_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD && self.method != Method::GET,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if becomes_get {
            self.method = Method::GET;
            self.body = None;
            self.headers.remove(CONTENT_TYPE);
            self.headers.remove(CONTENT_LENGTH);
        }
        if !same_origin {
            let headers = std::mem::take(&mut self.headers);
            let harmless = headers.iter().filter(|(name, _)| HARMLESS.contains(&name.as_str()));
            self.headers.extend(harmless.map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// Sends it, and waits for the head of the response.
    pub(super) async fn send(&self, client: &Client, target: &Target) -> reqwest::Result<reqwest::Response> {
        let mut request = client.request(self.method.clone(), target.url().clone()).headers(self.headers.clone());
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        request.send().await
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), JobError> {
    let invalid = |what: &str| JobError::fail("invalid_header", format!("header `{name}`: {what}"));
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("the name is not one of HTTP"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(invalid("it is written by the HTTP client and cannot be set"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| invalid("the value holds characters that are not allowed"))?;
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(payload: serde_json::Value) -> Result<Request, JobError> {
        let payload = serde_json::from_str(&payload.to_string()).expect("fits");
        Request::new(&payload, JobId::new(), Some("00-1-2-01"))
    }

    fn code(error: JobError) -> String {
        match error {
            JobError::Failed(failure) => failure.code,
            other => format!("{other:?}"),
        }
    }

    fn get<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
        request.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[test]
    fn what_the_payload_does_not_say_is_filled_in() {
        let payload = serde_json::from_str(r#"{"method":"POST","url":"http://a","json":{"a": 1}}"#).expect("fits");
        let id = JobId::new();
        let request = Request::new(&payload, id, Some("00-1-2-01")).expect("valid");
        assert_eq!(get(&request, "idempotency-key"), Some(id.to_string().as_str()));
        assert_eq!(get(&request, "traceparent"), Some("00-1-2-01"));
        assert_eq!(get(&request, "content-type"), Some("application/json"));
        assert_eq!(request.body.as_deref(), Some(br#"{"a": 1}"#.as_slice()));
    }

    #[test]
    fn what_the_payload_says_stays() {
        let headers = json!({"Idempotency-Key": "mine", "Traceparent": "t", "content-TYPE": "application/vnd.a+json"});
        let request = request(json!({"method": "PUT", "url": "http://a", "headers": headers, "json": null}));
        let request = request.expect("valid");
        assert_eq!(get(&request, "idempotency-key"), Some("mine"));
        assert_eq!(get(&request, "traceparent"), Some("t"));
        assert_eq!(get(&request, "content-type"), Some("application/vnd.a+json"));
        assert_eq!(request.body.as_deref(), Some(b"null".as_slice()));
    }

    #[test]
    fn dangerous_requests_are_refused() {
        for name in ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "upgrade", "a b", "a\nb", ""] {
            let outcome = request(json!({"method": "GET", "url": "http://a", "headers": {name: "x"}}));
            assert_eq!(outcome.map(|_| ()).map_err(code), Err("invalid_header".to_owned()), "{name}");
        }
        let split = request(json!({"method": "GET", "url": "http://a", "headers": {"X": "a\r\nHost: b"}}));
        assert_eq!(split.map(|_| ()).map_err(code), Err("invalid_header".to_owned()));
        for method in ["CONNECT", "TRACE", "GET /", ""] {
            let outcome = request(json!({"method": method, "url": "http://a"}));
            assert_eq!(outcome.map(|_| ()).map_err(code), Err("invalid_method".to_owned()), "{method}");
        }
        let both = request(json!({"method": "POST", "url": "http://a", "body": "", "json": 1}));
        assert_eq!(both.map(|_| ()).map_err(code), Err("invalid_payload".to_owned()));
    }

    #[test]
    fn redirects_change_the_method_as_the_standard_says() {
        for (method, status, expected) in [
            ("POST", 301, "GET"),
            ("POST", 302, "GET"),
            ("POST", 303, "GET"),
            ("POST", 307, "POST"),
            ("POST", 308, "POST"),
            ("PUT", 301, "PUT"),
            ("PUT", 303, "GET"),
            ("DELETE", 303, "GET"),
            ("GET", 302, "GET"),
            ("HEAD", 303, "HEAD"),
        ] {
            let mut request = request(json!({"method": method, "url": "http://a", "json": 1})).expect("valid");
            request.redirect(StatusCode::from_u16(status).expect("a status"), true);
            assert_eq!(request.method, expected, "{method} {status}");
            let kept = method == expected;
            assert_eq!((request.body.is_some(), get(&request, "content-type").is_some()), (kept, kept));
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let headers = json!({"Authorization": "Bearer x", "X-Api-Key": "k", "Accept": "*/*"});
        let mut request = request(json!({"method": "GET", "url": "http://a", "headers": headers})).expect("valid");
        request.redirect(StatusCode::FOUND, true);
        assert_eq!(get(&request, "authorization"), Some("Bearer x"));
        request.redirect(StatusCode::FOUND, false);
        assert_eq!((get(&request, "authorization"), get(&request, "x-api-key")), (None, None));
        assert_eq!(get(&request, "accept"), Some("*/*"));
        assert!(get(&request, "idempotency-key").is_some(), "the other side can still tell a repetition");
    }
}
