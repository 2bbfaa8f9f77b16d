//! A request's body on its way in: unpacked, bounded in its length and in how long it may stand still.

use std::io;
use std::time::Duration;

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tokio::io::AsyncRead;
use tokio::task::consume_budget;
use tokio::time::timeout;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::problem::{Problem, ProblemType};

/// A sender that brings nothing for this long is given up.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// What is unpacked at a time.
const PIECE: usize = 16 * 1024;

/// A sender may ask for 8 MiB of memory to unpack what it sends, as RFC 9659 has it.
const MAX_WINDOW_LOG: u32 = 23;

/// The pieces of a body. One that does not come within `idle` is an error of the kind [`io::ErrorKind::TimedOut`], and the
/// last.
pub(crate) fn pieces(body: Body, idle: Duration) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(body.into_data_stream()), move |stream| async move {
        let mut stream = stream?;
        match timeout(idle, stream.next()).await {
            Ok(piece) => {
                let aborted = |error| io::Error::new(io::ErrorKind::ConnectionAborted, error);
                Some((piece?.map_err(aborted), Some(stream)))
            }
            Err(_) => {
                let message = format!("nothing arrived for {} s", idle.as_secs_f64());
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, message)), None))
            }
        }
    })
}

/// A body as it was before its sender compressed it, of at most `limit` bytes both ways.
pub(crate) fn decoded(
    headers: &HeaderMap,
    body: Body,
    limit: u64,
) -> Result<BoxStream<'static, Result<Bytes, Problem>>, Problem> {
    let encoding = Encoding::of(headers)?;
    if body.size_hint().lower() > limit {
        return Err(Problem::too_large(limit));
    }
    // Both are counted: a few bytes may unpack to very many, and very many to none.
    let sent = at_most(limit, pieces(body, IDLE));
    let plain = match encoding {
        None => sent.boxed(),
        Some(encoding) => at_most(limit, ReaderStream::with_capacity(encoding.reader(sent), PIECE)).boxed(),
    };
    Ok(plain.map(move |piece| piece.map_err(|error| problem(&error, limit))).boxed())
}

/// Refuses a body that is encoded, where it is kept as it comes.
pub(crate) fn not_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    match encoding(headers).as_deref() {
        None => Ok(()),
        Some(other) => Err(unsupported(other, "identity")),
    }
}

/// How a body may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        match encoding(headers).as_deref() {
            None => Ok(None),
            Some("gzip" | "x-gzip") => Ok(Some(Self::Gzip)),
            Some("zstd") => Ok(Some(Self::Zstd)),
            Some(other) => Err(unsupported(other, "gzip, zstd")),
        }
    }

    /// Undoes the encoding. What follows the end of one stream has to be another one.
    fn reader(
        self,
        sent: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Box<dyn AsyncRead + Send + Unpin + 'static> {
        let sent = StreamReader::new(sent.boxed());
        match self {
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(sent);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            Self::Zstd => {
                let mut decoder = ZstdDecoder::with_params(sent, &[DParameter::window_log_max(MAX_WINDOW_LOG)]);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
        }
    }
}

/// What `Content-Encoding` says, in lower case; `None` for a body that is as it is.
fn encoding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?").trim());
    let all = values.collect::<Vec<_>>().join(", ").to_ascii_lowercase();
    (!matches!(all.as_str(), "" | "identity")).then_some(all)
}

fn unsupported(encoding: &str, accepted: &'static str) -> Problem {
    let detail =
        format_args!("the body's Content-Encoding `{encoding}` is not understood here; send one of: {accepted}");
    Problem::new(ProblemType::UnsupportedMediaType, detail).header(ACCEPT_ENCODING, HeaderValue::from_static(accepted))
}

/// Ends in an error of the kind [`io::ErrorKind::FileTooLarge`] where there is more.
fn at_most(
    limit: u64,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let mut length = 0;
    pieces.then(move |piece| {
        length += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let piece = if length > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { piece };
        async move {
            // Unpacking may go on for long without waiting for anything: others have their turn in between.
            consume_budget().await;
            piece
        }
    })
}

fn problem(error: &io::Error, limit: u64) -> Problem {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Problem::too_large(limit),
        io::ErrorKind::TimedOut => Problem::new(ProblemType::RequestTimeout, error),
        io::ErrorKind::ConnectionAborted => Problem::new(ProblemType::MalformedRequest, "the body broke off"),
        _ => {
            let detail = format_args!("the body is not what its Content-Encoding says: {error}");
            Problem::new(ProblemType::MalformedRequest, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::packed::{gzip, zstd};

    const TEXT: &[u8] = b"The row in the database is the truth. A message is a hint.";

    #[tokio::test]
    async fn a_body_that_stands_still_ends_in_an_error() {
        let half = stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"half"))]).chain(stream::pending());
        let mut pieces = Box::pin(pieces(Body::from_stream(half), Duration::from_millis(1)));
        assert_eq!(pieces.next().await.expect("a piece").expect("good"), "half");
        assert_eq!(pieces.next().await.expect("an end").expect_err("late").kind(), io::ErrorKind::TimedOut);
        assert!(pieces.next().await.is_none());
    }

    /// The body that `sent` stands for, and whether it is at most `limit` bytes long.
    async fn read(encoding: &'static str, sent: Vec<u8>, limit: u64) -> Result<Vec<u8>, ProblemType> {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))]);
        // Split, so that its length is not known beforehand.
        let halves = [sent[..sent.len() / 2].to_vec(), sent[sent.len() / 2..].to_vec()].map(Ok::<_, io::Error>);
        let pieces = decoded(&headers, Body::from_stream(stream::iter(halves)), limit).map_err(|p| p.kind())?;
        let all = pieces.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>();
        all.map(|pieces| pieces.concat()).map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn a_compressed_body_is_unpacked() {
        for (encoding, packed) in [("gzip", gzip(TEXT).await), ("GZIP", gzip(TEXT).await), ("zstd", zstd(TEXT).await)] {
            assert_eq!(read(encoding, packed.clone(), 500).await, Ok(TEXT.to_vec()), "{encoding}");
            let twice = [packed.clone(), packed].concat();
            assert_eq!(read(encoding, twice, 500).await, Ok(TEXT.repeat(2)), "{encoding}: streams add up");
        }
        for encoding in ["", "identity"] {
            assert_eq!(read(encoding, TEXT.to_vec(), 100).await, Ok(TEXT.to_vec()), "{encoding}");
        }
    }

    #[tokio::test]
    async fn the_limit_is_of_what_is_unpacked_and_of_what_is_sent() {
        let zeros = vec![0; 1_000_000];
        for (encoding, packed) in [("gzip", gzip(&zeros).await), ("zstd", zstd(&zeros).await)] {
            assert!(packed.len() < 10_000, "{encoding}");
            assert_eq!(read(encoding, packed.clone(), 1_000_000).await.map(|all| all.len()), Ok(1_000_000));
            assert_eq!(read(encoding, packed, 999_999).await, Err(ProblemType::ContentTooLarge), "{encoding}");
        }
        let empty = gzip(b"").await.repeat(100);
        assert_eq!(read("gzip", empty, 100).await, Err(ProblemType::ContentTooLarge), "nothing in many bytes");
    }

    #[tokio::test]
    async fn what_is_not_as_it_says_is_refused() {
        for (encoding, mut packed) in [("gzip", gzip(TEXT).await), ("zstd", zstd(TEXT).await)] {
            let refused = Err(ProblemType::MalformedRequest);
            assert_eq!(read(encoding, TEXT.to_vec(), 500).await, refused, "{encoding}");
            assert_eq!(read(encoding, [packed.clone(), b"more".to_vec()].concat(), 500).await, refused, "{encoding}");
            packed.truncate(packed.len() - 1);
            assert_eq!(read(encoding, packed, 500).await, refused, "{encoding}");
        }
    }

    #[test]
    fn other_encodings_are_refused_with_those_that_are_taken() {
        for value in ["br", "deflate", "gzip, zstd", "?"] {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]);
            let problem = Encoding::of(&headers).expect_err(value);
            assert_eq!(problem.kind(), ProblemType::UnsupportedMediaType);
        }
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        assert_eq!(not_encoded(&headers).map_err(|problem| problem.kind()), Err(ProblemType::UnsupportedMediaType));
        assert_eq!(not_encoded(&HeaderMap::new()).map_err(|problem| problem.kind()), Ok(()));
    }
}
