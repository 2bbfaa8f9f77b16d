//! `GET /v1/jobs/{id}/events`: what happens to a job, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use offload_common::job::JobId;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::hub::Following;
use crate::live::{self, Followed};
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};

/// The media type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// After this long without an event a comment shows that the stream is alive: proxies cut idle ones.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: &str = ": still here\n\n";

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}/events", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let stream = "Server-sent events, and a comment every 15 s without one. `id`, `event` and `data` are the members of \
                  this schema.";
    super::follows(Operation::new("followJob", "jobs", "Follow a job: server-sent events").description(
        "Every state that the job takes, its progress and its log lines, in order, from the beginning or behind the \
             event that the client has seen last. Ends after the final event.",
    ))
    .parameter(Parameter::header(
        "Last-Event-ID",
        "Only what comes behind this event. An `EventSource` sends it by itself when it connects again.",
        json!({ "type": "string", "examples": ["2-1"] }),
    ))
    .answer(Answer::of(200, stream, EVENT_STREAM, schemas.of::<live::EventView<'_>>()))
    .answer(Answer::empty(204, "Nothing will follow: the job is final, and the client has seen its last event."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let job = JobId(id);
    let after = live::last_event_id(&uri, &headers)?;
    let Followed { first, rest } = live::follow(&app, job, after).await?;
    // An `EventSource` that is told 204 does not come back.
    if first.is_last() && first.events().is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let begin = Some(live::preamble(job) + &live::frames(first.events()));
    let rest = if first.is_last() { None } else { Some(rest) };
    let streaming = Streaming { begin, rest, keep_alive: KEEP_ALIVE, stop: app.stop.clone() };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx passes on what it gets at once.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, streaming.into_body()).into_response())
}

/// A stream under way.
struct Streaming {
    /// What is to be sent first.
    begin: Option<String>,
    /// What follows; nothing once the last event is sent.
    rest: Option<Following>,
    keep_alive: Duration,
    stop: CancellationToken,
}

impl Streaming {
    /// What is to be sent next. The stream ends early when the process shuts down: the client connects to another.
    async fn next(&mut self) -> Option<String> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let next = tokio::time::timeout(self.keep_alive, self.rest.as_mut()?.next());
        let Ok(told) = self.stop.run_until_cancelled(next).await? else { return Some(COMMENT.to_owned()) };
        let told = told?;
        if told.is_last() {
            self.rest = None;
        }
        Some(live::frames(told.events()))
    }

    fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut streaming| async move {
            let text = streaming.next().await?;
            Some((Ok::<_, Infallible>(Bytes::from(text)), streaming))
        }))
    }
}

#[cfg(test)]
mod tests;
