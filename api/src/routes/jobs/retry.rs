//! `POST /v1/jobs/{id}/retry`: runs a final job again, as a new job.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use offload_common::job::JobId;

use super::{RETRY_AFTER_SECONDS, describe_state};
use crate::app::App;
use crate::idempotency;
use crate::json_body;
use crate::openapi::{Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::RequestInfo;
use crate::routes::{Endpoint, Id};
use crate::submission::Submission;
use crate::waiting::Waiting;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/jobs/{id}/retry", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let operation = Operation::new("retryJob", "jobs", "Run a final job again")
        .description("A new job with the same payload and settings, which names the old one in `retry_of`. The old one stays as it is.")
        .of_a_job()
        .reads_json()
        .problems(&[ProblemType::NotFinished, ProblemType::ShuttingDown]);
    super::accepts(operation, schemas)
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(request): Extension<RequestInfo>,
    Id(id): Id,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let mut query = Query::read(&uri, &["wait"]);
    let waiting = Waiting::read(&headers, &mut query, app.server.max_wait_seconds);
    query.finish()?;
    let key = idempotency::read(&headers, &format!("POST /v1/jobs/{id}/retry"), &body)?;
    let job = app.job(JobId(id)).await?;
    if !job.state.is_final() {
        let problem = Problem::new(ProblemType::NotFinished, describe_state(&job));
        return Err(problem.with("state", job.visible_state().as_str()).retry_after(RETRY_AFTER_SECONDS));
    }
    super::accept(&app, &request, Submission::again(job), key, &waiting).await
}
