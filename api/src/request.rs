//! What is known of a request beside its content: whose it is, its id, its place in a trace.

use axum::http::HeaderMap;
use uuid::Uuid;

/// Whose jobs a request is about. There is one tenant until there are keys.
pub(crate) const TENANT: &str = "default";

/// The header that carries the request's id, in and out.
pub(crate) const REQUEST_ID: &str = "x-request-id";

const MAX_REQUEST_ID: usize = 128;

/// Names a request in logs, in problems and in traces.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    /// The client's or proxy's `X-Request-Id`, or one made here.
    pub(crate) id: String,
    /// W3C trace context: the client's, or the beginning of a new trace.
    pub(crate) traceparent: String,
}

impl RequestInfo {
    /// Reads the headers; what is missing or malformed is made anew.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let id = text(REQUEST_ID).filter(|id| is_request_id(id)).map(str::to_owned);
        let traceparent = text("traceparent").and_then(continue_trace);
        Self {
            id: id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            traceparent: traceparent.unwrap_or_else(new_trace),
        }
    }

    /// The trace that the request is part of: 32 hex digits.
    pub(crate) fn trace_id(&self) -> &str {
        &self.traceparent[3..35]
    }
}

fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A valid `traceparent`, in the version that Offload writes (00). A later version is read as far as 00 goes, as the
/// recommendation asks.
fn continue_trace(header: &str) -> Option<String> {
    let mut parts = header.trim().split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |text: &str| text.bytes().any(|b| b != b'0');
    let whole = parts.next().is_none() || version != "00";
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    (valid && whole && set(trace) && set(parent)).then(|| format!("00-{trace}-{parent}-{flags}"))
}

/// A new trace, sampled.
fn new_trace() -> String {
    let parent = Uuid::now_v7().simple().to_string();
    format!("00-{}-{}-01", Uuid::now_v7().simple(), &parent[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_traceparent_is_continued() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(continue_trace(good).as_deref(), Some(good));
        let later = good.replacen("00", "01", 1) + "-what-the-future-brings";
        assert_eq!(continue_trace(&later).as_deref(), Some(good));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(continue_trace(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_new_trace_is_one_that_would_be_continued() {
        let new = new_trace();
        assert_eq!(continue_trace(&new), Some(new));
    }

    #[test]
    fn a_request_id_is_kept_if_it_is_harmless() {
        let read = |id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, axum::http::HeaderValue::from_static(id));
            RequestInfo::read(&headers).id
        };
        assert_eq!(read("abc-123"), "abc-123");
        assert_ne!(read("with blanks"), "with blanks");
        assert_ne!(read(""), "");
    }
}
