//! `GET /v1/batches/{id}`: how far a batch has come.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use offload_common::job::BatchId;

use crate::app::App;
use crate::batch::BatchView;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/batches/{id}", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("getBatch", "batches", "Show how far a batch has come").of_a_batch().answer(Answer::json(
        200,
        "The batch.",
        schemas.of::<BatchView<'_>>(),
    ))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id) -> Result<Response, Problem> {
    let batch = app.batch(BatchId(id)).await?;
    Ok(Json(BatchView::from(&batch)).into_response())
}
