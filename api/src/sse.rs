//! Server-sent events: how they are written, and the stream that they go out in.

use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::openapi::Parameter;
use crate::problem::Problem;
use crate::query::Query;

/// The media type of server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Where a client's `EventSource` says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

/// The same for clients that cannot set headers.
pub(crate) const PARAMETER: &str = "last_event_id";

/// A client's `EventSource` waits this long before it connects again, and up to twice as much more, so that those of a
/// server that stopped do not come all at once.
const RETRY_MILLISECONDS: u128 = 1_000;

/// After this long without an event a comment shows that the stream is alive: proxies cut idle ones.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &str = ": still here\n\n";

/// The last event that the client has seen, of a stream without other parameters.
pub(crate) fn last_event_id<T: FromStr<Err: Display>>(uri: &Uri, headers: &HeaderMap) -> Result<Option<T>, Problem> {
    let mut query = Query::read(uri, &[PARAMETER]);
    let seen = last_event_id_among(&mut query, headers);
    query.finish()?;
    Ok(seen)
}

/// The same among other parameters. The header counts more: an `EventSource` keeps the URL that it began with.
pub(crate) fn last_event_id_among<T: FromStr<Err: Display>>(query: &mut Query, headers: &HeaderMap) -> Option<T> {
    let parse = |text: &str| text.parse::<T>().map_err(|error| error.to_string());
    let asked = query.parse(PARAMETER, parse);
    let Some(header) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else { return asked };
    let id = header.to_str().map_err(|_| "must be ASCII".to_owned()).and_then(parse);
    id.map_err(|detail| query.refuse("Last-Event-ID", detail)).ok()
}

/// The description of `Last-Event-ID`.
pub(crate) fn last_event_id_header(example: &str) -> Parameter {
    Parameter::header(
        "Last-Event-ID",
        "Only what comes behind this event. An `EventSource` sends it by itself when it connects again.",
        json!({ "type": "string", "examples": [example] }),
    )
}

/// The description of `?last_event_id=`.
pub(crate) fn last_event_id_parameter(example: &str) -> Parameter {
    let text = "Only what comes behind this event; for clients that cannot set the header.";
    Parameter::query(PARAMETER, text, json!({ "type": "string", "examples": [example] }))
}

/// What a stream about this begins with.
pub(crate) fn preamble(about: Uuid) -> String {
    let retry = RETRY_MILLISECONDS + about.as_u128() % (2 * RETRY_MILLISECONDS);
    format!("retry: {retry}\n\n")
}

/// Writes an event.
pub(crate) fn write(text: &mut String, id: impl Display, event: impl Display, data: &impl Serialize) {
    let data = serde_json::to_string(data).unwrap_or_default();
    // JSON has no line breaks, so it is one line of data. Writing to a string cannot fail.
    let _ = write!(text, "id: {id}\nevent: {event}\ndata: {data}\n\n");
}

/// The answer that begins with this text and goes on with the rest.
pub(crate) fn answer(begin: String, rest: BoxStream<'static, String>, stop: &CancellationToken) -> Response {
    let streaming = Streaming { begin: Some(begin), rest, keep_alive: KEEP_ALIVE, stop: stop.clone() };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx passes on what it gets at once.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, streaming.into_body()).into_response()
}

/// A stream under way.
struct Streaming {
    /// What is to be sent first.
    begin: Option<String>,
    rest: BoxStream<'static, String>,
    keep_alive: Duration,
    stop: CancellationToken,
}

impl Streaming {
    /// What is to be sent next. The stream ends early when the process shuts down: the client connects to another.
    async fn next(&mut self) -> Option<String> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let next = tokio::time::timeout(self.keep_alive, self.rest.next());
        self.stop.run_until_cancelled(next).await?.unwrap_or_else(|_| Some(COMMENT.to_owned()))
    }

    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut streaming| async move {
            let text = streaming.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(text)), streaming))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_stream_shows_that_it_is_alive() {
        let (begin, rest, stop) = (Some("begin\n\n".to_owned()), stream::pending().boxed(), CancellationToken::new());
        let mut streaming = Streaming { begin, rest, keep_alive: Duration::ZERO, stop };
        assert_eq!(streaming.next().await.as_deref(), Some("begin\n\n"));
        for _ in 0..3 {
            assert_eq!(streaming.next().await.as_deref(), Some(COMMENT));
        }
        streaming.stop.cancel();
        assert_eq!(streaming.next().await, None);
    }
}
