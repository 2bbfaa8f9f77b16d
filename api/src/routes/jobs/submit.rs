//! `POST /v1/jobs`: submits a job.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::json;

use crate::app::App;
use crate::idempotency;
use crate::json_body;
use crate::openapi::{Operation, Schemas, submission_schema};
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::RequestInfo;
use crate::routes::Endpoint;
use crate::submission::{self, Submission};
use crate::waiting::Waiting;

const PATH: &str = "/v1/jobs";

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post(PATH, handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let operation = Operation::new("submitJob", "jobs", "Submit a job")
        .description(
            "The payload is checked against the kind's schema; whatever is wrong with the body is reported together. \
             `202` is answered once the job is committed.",
        )
        .body(true, json!({ "application/json": { "schema": submission_schema() } }))
        .reads_json()
        .problems(&[ProblemType::ShuttingDown]);
    super::accepts(operation, schemas)
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(request): Extension<RequestInfo>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = json_body::read(&headers, body, app.server.max_body_bytes).await?;
    let mut query = Query::read(&uri, &["wait"]);
    let waiting = Waiting::read(&headers, &mut query, app.server.max_wait_seconds);
    query.finish()?;
    let key = idempotency::read(&headers, "POST /v1/jobs", &body.bytes)?;
    let deadline = app.deadline();
    let known = app.catalog.knowing(submission::kind_of(&body)).await;
    let submission = Submission::read(&body, &app.rules(&known))?;
    super::accept(&app, &request, submission, key, &waiting, deadline).await
}

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod tests;
