//! `GET /v1/jobs/{id}/result`: what a job came to.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use offload_common::job::{JobId, State as JobState};
use serde_json::json;

use super::{RETRY_AFTER_SECONDS, describe_state};
use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::routes::{Endpoint, Id};
use crate::view::ErrorView;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}/result", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    let result = "The result, as its kind's schema says. Files that the job produced are named by id in it; fetch them \
                  from `/v1/files/{id}`.";
    Operation::new("getResult", "jobs", "Read what a job came to")
        .of_a_job()
        .problems(&[ProblemType::NotFinished, ProblemType::NoResult])
        .answer(Answer::json(200, result, json!({})))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id) -> Result<Response, Problem> {
    let job = app.job(JobId(id)).await?;
    let state = job.visible_state();
    match state {
        JobState::Succeeded => {
            let body = job.result.map_or_else(|| "null".to_owned(), |result| result.get().to_owned());
            let headers = [
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600, immutable")),
            ];
            Ok((headers, body).into_response())
        }
        JobState::Failed | JobState::Cancelled => {
            let error = job.error.as_ref().map(ErrorView::from);
            let error = serde_json::to_value(error).unwrap_or_default();
            let problem = Problem::new(ProblemType::NoResult, describe_state(&job));
            Err(problem.with("state", state.as_str()).with("error", error))
        }
        JobState::Scheduled | JobState::Queued | JobState::Running => {
            let problem = Problem::new(ProblemType::NotFinished, describe_state(&job));
            Err(problem.with("state", state.as_str()).retry_after(RETRY_AFTER_SECONDS))
        }
    }
}
