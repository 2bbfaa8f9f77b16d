//! Server-sent events, as a client reads them.

use axum::body::{Body, BodyDataStream};
use axum::http::Method;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::Value;
use tower::ServiceExt;

use super::{TestApp, request};

/// A stream as a client reads it.
pub(crate) struct Reading {
    body: BodyDataStream,
    text: String,
}

/// An event as it came: id, name, data.
pub(crate) type Seen = (String, String, Value);

impl Reading {
    /// Opens the stream at this path, behind the event that was seen last; nothing to read where the answer is no stream.
    pub(crate) async fn open(app: &TestApp, path: &str, seen: Option<&str>) -> (Response, Option<Self>) {
        let headers: Vec<_> = seen.map(|id| ("last-event-id", id)).into_iter().collect();
        let request = request(Method::GET, path, &headers, Body::empty());
        let mut response = app.router.clone().oneshot(request).await.expect("an answer");
        if response.status() != 200 {
            return (response, None);
        }
        let body = std::mem::take(response.body_mut()).into_data_stream();
        (response, Some(Self { body, text: String::new() }))
    }

    /// Opens one that is there.
    pub(crate) async fn of(app: &TestApp, path: &str, seen: Option<&str>) -> Self {
        Self::open(app, path, seen).await.1.expect("a stream")
    }

    /// The next block; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = self.body.next().await?.expect("no error");
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Option<Seen> {
        loop {
            let block = self.block().await?;
            if let [id, event, data] = block.lines().collect::<Vec<_>>()[..] {
                let field = |line: &str, name: &str| line.strip_prefix(name).expect("the field").to_owned();
                let data = serde_json::from_str(&field(data, "data: ")).expect("JSON");
                return Some((field(id, "id: "), field(event, "event: "), data));
            }
            assert!(block.starts_with("retry: ") || block.starts_with(':'), "{block}");
        }
    }

    /// Everything up to the end.
    pub(crate) async fn all(mut self) -> Vec<Seen> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}
