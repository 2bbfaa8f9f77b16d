//! A request's body on its way in: bounded in how long it may stand still, and not compressed.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::time::timeout;

use crate::problem::{Problem, ProblemType};

/// A sender that brings nothing for this long is given up.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// The pieces of a body. One that does not come within `idle` is an error of the kind [`io::ErrorKind::TimedOut`], and the
/// last.
pub(crate) fn pieces(body: Body, idle: Duration) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(body.into_data_stream()), move |stream| async move {
        let mut stream = stream?;
        match timeout(idle, stream.next()).await {
            Ok(piece) => Some((piece?.map_err(io::Error::other), Some(stream))),
            Err(_) => {
                let message = format!("nothing arrived for {} s", idle.as_secs_f64());
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, message)), None))
            }
        }
    })
}

/// Refuses a body that is encoded in a way that would have to be undone first.
pub(crate) fn not_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim());
    match encoding {
        None | Some("" | "identity") => Ok(()),
        Some(encoding) => {
            let detail = format_args!("the body's Content-Encoding `{encoding}` is not understood; send it as it is");
            Err(Problem::new(ProblemType::UnsupportedMediaType, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[tokio::test]
    async fn a_body_that_stands_still_ends_in_an_error() {
        let half = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"half"))]).chain(stream::pending());
        let mut pieces = Box::pin(pieces(Body::from_stream(half), Duration::from_millis(1)));
        assert_eq!(pieces.next().await.expect("a piece").expect("good"), "half");
        assert_eq!(pieces.next().await.expect("an end").expect_err("late").kind(), io::ErrorKind::TimedOut);
        assert!(pieces.next().await.is_none());
    }

    #[test]
    fn only_a_body_as_it_is_is_understood() {
        let judged = |value: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
            not_encoded(&headers).map_err(|problem| problem.kind())
        };
        assert_eq!(not_encoded(&HeaderMap::new()).map_err(|problem| problem.kind()), Ok(()));
        assert_eq!(judged("identity"), Ok(()));
        assert_eq!(judged("gzip"), Err(ProblemType::UnsupportedMediaType));
    }
}
