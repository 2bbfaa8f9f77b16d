//! A stream of server-sent events, as a browser's `EventSource` reads it.

use reqwest::Method;
use serde_json::Value;

use super::Client;

/// An event as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream that is open.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    /// Opens the stream at this path, behind the event that was seen last; `None` where nothing will follow.
    pub(crate) async fn open(client: &Client, path: &str, seen: Option<&str>) -> Option<Self> {
        let mut request = client.request(Method::GET, path).header("accept", "text/event-stream");
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let response = request.send().await.expect("the server answers");
        if response.status() == 204 {
            return None;
        }
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Some(Self { response, text: String::new() })
    }

    /// Opens the stream of a job.
    pub(crate) async fn of(client: &Client, job: &str, seen: Option<&str>) -> Option<Self> {
        Self::open(client, &format!("/v1/jobs/{job}/events"), seen).await
    }

    /// The next event; `None` at the end of the stream, however it came.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    block.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
                };
                if let (Some(id), Some(name), Some(data)) = (field("id"), field("event"), field("data")) {
                    return Some(Event { id, name, data: serde_json::from_str(&data).expect("JSON") });
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The next event that this holds of.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        loop {
            let event = self.next().await?;
            if wanted(&event) {
                return Some(event);
            }
        }
    }

    /// Everything up to the end.
    pub(crate) async fn all(mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

/// The whole story of a job, once it is over.
pub(crate) async fn story(client: &Client, job: &str) -> Vec<Event> {
    Events::of(client, job, None).await.expect("a story").all().await
}
