//! `GET /v1/jobs/{id}/events`: what happens to a job, as server-sent events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream;
use offload_common::job::JobId;

use crate::app::App;
use crate::live::{self, Followed};
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};
use crate::sse;

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
    .parameter(sse::last_event_id_header("2-1"))
    .answer(Answer::of(200, stream, sse::EVENT_STREAM, schemas.of::<live::EventView<'_>>()))
    .answer(Answer::empty(204, "Nothing will follow: the job is final, and the client has seen its last event."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let job = JobId(id);
    let after = sse::last_event_id(&uri, &headers)?;
    let Followed { first, rest } = live::follow(&app, job, after).await?;
    // An `EventSource` that is told 204 does not come back.
    if first.is_last() && first.events().is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let begin = sse::preamble(id) + &live::frames(first.events());
    let rest = stream::unfold((!first.is_last()).then_some(rest), async |rest| {
        let mut rest = rest?;
        let told = rest.next().await?;
        Some((live::frames(told.events()), (!told.is_last()).then_some(rest)))
    });
    Ok(sse::answer(begin, rest.boxed(), &app.stop))
}

#[cfg(test)]
mod tests;
