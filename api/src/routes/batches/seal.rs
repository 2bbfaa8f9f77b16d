//! `POST /v1/batches/{id}/seal`: takes no more jobs into an open batch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use offload_common::job::BatchId;

use crate::app::App;
use crate::batch::BatchView;
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::request::TENANT;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/batches/{id}/seal", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("sealBatch", "batches", "Take no more jobs into a batch")
        .description("Once all of its jobs are final, the batch is finished. Sealing it again changes nothing.")
        .of_a_batch()
        .reads_json()
        .answer(Answer::json(202, "The batch.", schemas.of::<BatchView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let id = BatchId(id);
    if !app.ask(app.store.seal_batch(TENANT, id)).await? {
        return Err(Problem::not_found(format_args!("there is no batch {id}")));
    }
    let batch = app.batch(id).await?;
    Ok(super::accepted(&BatchView::from(&batch)))
}
