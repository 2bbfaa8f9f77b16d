//! `POST /v1/schedules/{id}/run`: submits what a schedule does now.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use offload_common::job::ScheduleId;
use offload_common::store::{Accepted, Ran};
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::batch::BatchView;
use crate::idempotency::{self, IDEMPOTENCY_REPLAYED};
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::{RequestInfo, TENANT};
use crate::routes::{Endpoint, Id, batches};
use crate::submission::UNIQUE_KEY_MATCHED;
use crate::view::{JobView, job_path};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/schedules/{id}/run", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("runSchedule", "schedules", "Run a schedule now")
        .description(
            "Whatever it does otherwise: also while it is paused, and while what it submitted last runs. It submits its job, or its batch; \
             `fire_at` is now, and that is the schedule's last from then on.",
        )
        .of_a_schedule()
        .idempotent()
        .reads_json()
        .answer(
            Answer::json(202, "The job, or the batch, is committed, and will run.", schemas.of::<Run<'_>>())
                .header("Location", "The job, or the batch.")
                .header("Retry-After", "Seconds after which looking again is worth it.")
                .header("Idempotency-Replayed", "`true` if the Idempotency-Key named it before.")
                .header("Unique-Key-Matched", "`true` if this is the live job that had the `unique_key` already."),
        )
        .problems(&[ProblemType::UniqueKeyHeld, ProblemType::IdempotencyKeyInUse])
}

/// What was submitted.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Run")]
enum Run<'a> {
    /// A job.
    Job(JobView<'a>),
    /// A batch.
    #[expect(dead_code, reason = "it is answered as every batch is; this describes it")]
    Batch(BatchView<'a>),
}

async fn handle(
    State(app): State<Arc<App>>,
    Extension(request): Extension<RequestInfo>,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let body = json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let key = idempotency::read(&headers, &format!("POST /v1/schedules/{id}/run"), &body)?;
    let id = ScheduleId(id);
    let run = app.store.run_schedule(TENANT, id, key.as_ref(), Some(&request.traceparent));
    let (job, told) = match app.ask(run).await? {
        None => return Err(super::missing(id)),
        Some(Ran::Batch(batch, filled)) => return batches::answer(&app, batch, filled, 0, Vec::new()).await,
        Some(Ran::Job(job, Accepted::New { .. })) => (job, None),
        Some(Ran::Job(_, Accepted::Repeated(job))) => (job, Some(IDEMPOTENCY_REPLAYED)),
        Some(Ran::Job(_, Accepted::Matched(job))) => (job, Some(UNIQUE_KEY_MATCHED)),
        Some(Ran::Job(_, Accepted::Held(job))) => {
            let held = app.job(job).await?;
            return Err(Problem::unique_key_held(&held.kind, &held.unique_key.unwrap_or_default(), Some(job)));
        }
        Some(Ran::Job(_, Accepted::KeyReused)) => {
            let detail = "this Idempotency-Key came before with another request; use a new one";
            return Err(Problem::new(ProblemType::IdempotencyKeyReused, detail));
        }
        // What a schedule submits runs after nothing.
        Some(Ran::Job(_, Accepted::Orphan(_))) => return Err(Problem::internal()),
    };
    let gone = format!("the job {job} that this Idempotency-Key named is gone: its retention has passed");
    let job = app.job(job).await.map_err(|problem| match problem.kind() {
        ProblemType::NotFound => Problem::new(ProblemType::Gone, gone),
        _ => problem,
    })?;
    let mut response = (StatusCode::ACCEPTED, Json(Run::Job(JobView::from(&job)))).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(job_path(job.id)) {
        headers.insert(LOCATION, location);
    }
    headers.insert(RETRY_AFTER, 1.into());
    if let Some(name) = told {
        headers.insert(name, HeaderValue::from_static("true"));
    }
    Ok(response)
}
