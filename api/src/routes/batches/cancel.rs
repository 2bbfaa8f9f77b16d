//! `POST /v1/batches/{id}/cancel`: cancels what is not final of a batch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use offload_common::broker::Signal;
use offload_common::job::BatchId;
use offload_common::store;
use tokio::time::timeout_at;

use crate::app::App;
use crate::batch::BatchView;
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};

/// Jobs of one transaction.
const PAGE: u32 = 500;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/batches/{id}/cancel", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("cancelBatch", "batches", "Cancel what is not final of a batch")
        .description(
            "Jobs that have not started are cancelled, those that run are stopped. A large batch takes a while: it goes on \
             after the answer, and doing it again goes on where it was left.",
        )
        .of_a_batch()
        .reads_json()
        .answer(Answer::json(202, "The batch.", schemas.of::<BatchView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let (id, deadline) = (BatchId(id), app.deadline());
    app.batch(id).await?;
    let mut cancelling = tokio::spawn(cancel(app.clone(), id));
    if let Ok(cancelled) = timeout_at(deadline.into(), &mut cancelling).await {
        cancelled.map_err(|_| Problem::internal())??;
    }
    let batch = app.batch(id).await?;
    Ok(super::accepted(&BatchView::from(&batch)))
}

async fn cancel(app: Arc<App>, id: BatchId) -> store::Result<()> {
    let mut after = None;
    loop {
        let page = app.store.cancel_batch(id, after, PAGE).await.inspect_err(|error| {
            tracing::warn!(%error, batch = %id, "a batch was cancelled in part; it can be done again");
        })?;
        if !page.requested.is_empty() {
            app.broker.signal(Signal::Cancel(page.requested)).await;
        }
        if !page.ended.is_empty() {
            app.broker.signal(Signal::Changed(page.ended)).await;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}
