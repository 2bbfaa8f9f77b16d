//! Bodies of requests that are answered before they were read.
//!
//! A client that writes its whole body before it reads would see a reset connection instead of, say, a 413, if the
//! server closed at once. So what a handler leaves unread is read on for a while, and thrown away.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use futures_util::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long an unread body is read on, and how much of it.
const PATIENCE: Duration = Duration::from_secs(2);
const MAX_BYTES: usize = 16 << 20;

/// Gives a request a body that is read on when it is dropped. Not that of a client which waits for `100 Continue`, unless
/// it was told to continue: it has not begun to write.
pub(crate) fn on(request: Request) -> Request {
    let wanted = !request.headers().contains_key(EXPECT);
    request.map(|body| if body.is_end_stream() { body } else { Body::new(Lingering { body, unread: wanted }) })
}

struct Lingering {
    body: Body,
    unread: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.unread = !matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let (true, false, Ok(runtime)) = (self.unread, self.body.is_end_stream(), Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, read_on(std::mem::take(&mut self.body))));
        }
    }
}

async fn read_on(body: Body) {
    let mut stream = body.into_data_stream();
    let mut left = MAX_BYTES;
    while let Some(Ok(chunk)) = stream.next().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
