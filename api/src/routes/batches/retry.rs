//! `POST /v1/batches/{id}/retry`: runs again what failed of a batch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use offload_common::job::BatchId;
use offload_common::store;
use tokio::time::timeout_at;

use crate::app::App;
use crate::batch::BatchView;
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::request::TENANT;
use crate::routes::{Endpoint, Id};

/// Jobs of one transaction.
const PAGE: u32 = 500;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/batches/{id}/retry", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("retryBatch", "batches", "Run again what failed of a batch")
        .description(
            "Each failed job that has not been repeated yet is followed by a new one in the same batch, which names it in \
             `retry_of`. A batch that was finished stays so, and its follow-up job does not run again.",
        )
        .of_a_batch()
        .reads_json()
        .answer(Answer::json(202, "The batch.", schemas.of::<BatchView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let (id, deadline) = (BatchId(id), app.deadline());
    app.batch(id).await?;
    let mut repeating = tokio::spawn(retry(app.clone(), id));
    if let Ok(repeated) = timeout_at(deadline.into(), &mut repeating).await {
        repeated.map_err(|_| Problem::internal())??;
    }
    let batch = app.batch(id).await?;
    Ok(super::accepted(&BatchView::from(&batch)))
}

/// What fails again meanwhile is left to the next time: it comes after what was there at the beginning.
async fn retry(app: Arc<App>, id: BatchId) -> store::Result<()> {
    let mut left = app.store.batch(TENANT, id).await?.map_or(0, |batch| batch.counts.failed);
    while left > 0 {
        let page = u32::try_from(left).map_or(PAGE, |left| left.min(PAGE));
        let repeated = app.store.retry_batch(TENANT, id, page).await.inspect_err(|error| {
            tracing::warn!(%error, batch = %id, "a batch was repeated in part; it can be done again");
        })?;
        if repeated < u64::from(page) {
            break;
        }
        left -= repeated;
    }
    Ok(())
}
