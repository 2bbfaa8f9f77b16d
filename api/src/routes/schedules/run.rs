//! `POST /v1/schedules/{id}/run`: submits a schedule's job now.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use offload_common::job::ScheduleId;
use offload_common::store::Accepted;

use crate::app::App;
use crate::idempotency::{self, IDEMPOTENCY_REPLAYED};
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::{RequestInfo, TENANT};
use crate::routes::{Endpoint, Id};
use crate::submission::UNIQUE_KEY_MATCHED;
use crate::view::{JobView, job_path};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/schedules/{id}/run", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("runSchedule", "schedules", "Run a schedule's job now")
        .description(
            "Whatever it does otherwise: also while it is paused, and while its last job runs. The job's `fire_at` is now, and \
             it is the schedule's last from then on.",
        )
        .of_a_schedule()
        .idempotent()
        .reads_json()
        .answer(
            Answer::json(202, "The job is committed, and will run.", schemas.of::<JobView<'_>>())
                .header("Location", "The job.")
                .header("Retry-After", "Seconds after which looking again is worth it.")
                .header("Idempotency-Replayed", "`true` if the Idempotency-Key named this job before.")
                .header("Unique-Key-Matched", "`true` if this is the live job that had the `unique_key` already."),
        )
        .problems(&[ProblemType::UniqueKeyHeld])
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
        Some((job, Accepted::New { .. })) => (job, None),
        Some((_, Accepted::Repeated(job))) => (job, Some(IDEMPOTENCY_REPLAYED)),
        Some((_, Accepted::Matched(job))) => (job, Some(UNIQUE_KEY_MATCHED)),
        Some((_, Accepted::Held(job))) => {
            let held = app.job(job).await?;
            return Err(Problem::unique_key_held(&held.kind, &held.unique_key.unwrap_or_default(), Some(job)));
        }
        Some((_, Accepted::KeyReused)) => {
            let detail = "this Idempotency-Key came before with another request; use a new one";
            return Err(Problem::new(ProblemType::IdempotencyKeyReused, detail));
        }
        // What a schedule submits runs after nothing.
        Some((_, Accepted::Orphan(_))) => return Err(Problem::internal()),
    };
    let gone = format!("the job {job} that this Idempotency-Key named is gone: its retention has passed");
    let job = app.job(job).await.map_err(|problem| match problem.kind() {
        ProblemType::NotFound => Problem::new(ProblemType::Gone, gone),
        _ => problem,
    })?;
    let mut response = (StatusCode::ACCEPTED, Json(JobView::from(&job))).into_response();
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
