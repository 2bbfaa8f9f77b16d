//! `GET /v1/batches/{id}/events`: how a batch gets on, as server-sent events.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use offload_common::job::BatchId;
use offload_common::store::Batch;

use crate::app::App;
use crate::batch::{BatchView, Mark, Watching};
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::routes::{Endpoint, Id};
use crate::sse;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/batches/{id}/events", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let stream = "Server-sent events named `batch`, and a comment every 15 s without one. Each `data` is the batch as it is \
                  then.";
    Operation::new("followBatch", "batches", "Follow a batch: server-sent events")
        .description(
            "The batch as it is, and again when jobs of it have ended, when it has grown, been sealed or finished: at most a \
             few times a second. Ends after the event that shows all of its jobs final.",
        )
        .of_a_batch()
        .parameter(sse::last_event_id_header("300-17-1"))
        .parameter(sse::last_event_id_parameter("300-17-1"))
        .problems(&[ProblemType::InvalidParameter])
        .answer(Answer::of(200, stream, sse::EVENT_STREAM, schemas.of::<BatchView<'_>>()))
        .answer(Answer::empty(204, "Nothing will follow: the batch is finished, and the client has seen that."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let after: Option<Mark> = sse::last_event_id(&uri, &headers)?;
    let batch = app.batch(BatchId(id)).await?;
    let mark = Mark::from(&batch);
    let is_new = after < Some(mark);
    // An `EventSource` that is told 204 does not come back.
    if mark.is_over() && !is_new {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut begin = sse::preamble(id);
    if is_new {
        begin += &frame(&batch);
    }
    if mark.is_over() {
        return Ok(sse::answer(begin, stream::empty().boxed(), &app.stop));
    }
    let watching = Watching::begin(&app.batches, batch, after.map_or(mark, |after| after.max(mark)));
    let rest = stream::unfold(watching, async |mut watching| {
        let batch = watching.next().await?;
        Some((frame(&batch), watching))
    });
    Ok(sse::answer(begin, rest.boxed(), &app.stop))
}

fn frame(batch: &Batch) -> String {
    let mut text = String::new();
    sse::write(&mut text, Mark::from(batch), "batch", &BatchView::from(batch));
    text
}

#[cfg(test)]
mod tests;
