//! `POST /v1/batches/{id}/jobs`: adds jobs to an open batch.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use offload_common::job::BatchId;
use offload_common::store::Target;

use crate::app::App;
use crate::batch::{Scope, Source, gather};
use crate::openapi::{Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::RequestInfo;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/batches/{id}/jobs", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let operation = Operation::new("addToBatch", "batches", "Add jobs to an open batch")
        .description("A batch that was submitted with `\"sealed\": false` takes more jobs until it is sealed.")
        .of_a_batch()
        .problems(&[ProblemType::BatchSealed]);
    super::takes_jobs(operation, false, schemas)
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(request): Extension<RequestInfo>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["partial"]);
    let partial = query.flag("partial");
    query.finish()?;
    let id = BatchId(id);
    // Asked before a body of any length is read.
    if app.batch(id).await?.sealed && !headers.contains_key(crate::idempotency::IDEMPOTENCY_KEY) {
        return Err(Problem::new(ProblemType::BatchSealed, format_args!("batch {id} takes no more jobs")));
    }
    let route = format!("POST /v1/batches/{id}/jobs{}", if partial { "?partial" } else { "" });
    let source = Source { app: &app, request: &request, headers: &headers, route: &route, scope: Scope::More, partial };
    let gathered = gather(source, body).await?;
    super::fill(app.clone(), request, Target::Open(id), gathered).await
}
