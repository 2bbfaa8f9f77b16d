//! `POST /v1/batches`: submits many jobs at once.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use offload_common::job::BatchId;
use offload_common::store::{NewBatch, Target};

use crate::app::App;
use crate::batch::{Scope, Source, gather};
use crate::openapi::{Operation, Schemas};
use crate::problem::Problem;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/batches", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let operation = Operation::new("submitBatch", "batches", "Submit many jobs at once").description(
        "All of the jobs are accepted, or none. As `application/x-ndjson`, with a job a line, up to 1,000,000 of them are \
         taken in as they arrive; the first line may be `{\"batch\": {\"defaults\": …, \"follow_up\": …, \"callback\": …, \"metadata\": …, \
         \"sealed\": …}}`. What is wrong is reported with its line.",
    );
    super::takes_jobs(operation, true, schemas)
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(request): Extension<RequestInfo>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["partial"]);
    let partial = query.flag("partial");
    query.finish()?;
    let route = if partial { "POST /v1/batches?partial" } else { "POST /v1/batches" };
    let source = Source { app: &app, request: &request, headers: &headers, route, scope: Scope::New, partial };
    let mut gathered = gather(source, body).await?;
    let batch = NewBatch {
        id: BatchId::new(),
        sealed: gathered.header.sealed,
        metadata: gathered.header.metadata.take(),
        follow_up: gathered.header.follow_up.take(),
        callback: gathered.header.callback.take(),
    };
    super::fill(app.clone(), request, Target::New(Box::new(batch)), gathered).await
}

#[cfg(test)]
mod tests;
