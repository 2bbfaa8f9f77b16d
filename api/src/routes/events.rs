//! `GET /v1/events`: a list of jobs as it changes, as server-sent events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use offload_common::store::JobFilter;
use serde_json::json;
use tokio::time::timeout_at;
use uuid::Uuid;

use crate::app::App;
use crate::listing::{ListEventView, Reader};
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::routes::Endpoint;
use crate::routes::jobs::filter;
use crate::sse;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// An id of an event, for examples.
const ID: &str = "9f86d081884c7d65";

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/events", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let stream = "Server-sent events, and a comment every 15 s without one. `id`, `event` and `data` are the members of \
                  this schema.";
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    let operation = Operation::new("followJobs", "jobs", "Follow a list of jobs: server-sent events").description(
        "The newest jobs that every given filter matches, and then what changes in this list: at most a few times a second. \
         Never ends by itself.",
    );
    filter::describe(operation)
        .parameter(Parameter::query("limit", "The length of the list.", limit))
        .parameter(sse::last_event_id_header(ID))
        .parameter(sse::last_event_id_parameter(ID))
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter, ProblemType::ShuttingDown])
        .answer(Answer::of(200, stream, sse::EVENT_STREAM, schemas.of::<ListEventView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &[&filter::PARAMETERS[..], &["limit", sse::PARAMETER]].concat());
    let filter = JobFilter { limit: query.limit(DEFAULT_LIMIT, MAX_LIMIT), ..filter::read(&mut query) };
    let seen = sse::last_event_id_among(&mut query, &headers);
    query.finish()?;
    let mut reader = Reader::begin(&app.lists, filter);
    let first = match app.stop.run_until_cancelled(timeout_at(app.deadline().into(), reader.first(seen))).await {
        Some(Ok(Some(first))) => first,
        Some(Ok(None) | Err(_)) => return Err(Problem::database_unavailable()),
        None => return Err(Problem::shutting_down()),
    };
    let rest = stream::unfold(reader, async |mut reader| Some((reader.next().await?, reader)));
    Ok(sse::answer(sse::preamble(Uuid::now_v7()) + &first, rest.boxed(), &app.stop))
}

#[cfg(test)]
mod tests;
