//! `GET /v1/jobs/{id}`: reads a job, or waits for its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use offload_common::job::JobId;
use serde_json::json;

use super::RETRY_AFTER_SECONDS;
use crate::app::App;
use crate::conditional::matches_any;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::Problem;
use crate::query::Query;
use crate::routes::{Endpoint, Id};
use crate::view::{self, JobView};
use crate::waiting::Waiting;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let condition = "The job's `ETag` as you know it: if it still looks like that, the answer is 304.";
    Operation::new("getJob", "jobs", "Read a job, or wait for its end")
        .of_a_job()
        .may_wait()
        .parameter(Parameter::header("If-None-Match", condition, json!({ "type": "string" })))
        .answer(
            Answer::json(200, "The job.", schemas.of::<JobView<'_>>())
                .header("ETag", "Changes whenever the job looks different.")
                .header("Retry-After", "While the job is not final: seconds after which looking again is worth it.")
                .header("Preference-Applied", "Which preferences were honoured."),
        )
        .answer(Answer::empty(304, "The job looks as `If-None-Match` says."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["wait"]);
    let waiting = Waiting::read(&headers, &mut query, app.server.max_wait_seconds);
    query.finish()?;
    let job = app.job_after(JobId(id), waiting.at_most).await?;
    let etag = view::etag(&job);
    let unchanged = etag.as_ref().is_some_and(|etag| matches_any(&headers, IF_NONE_MATCH, etag));
    let mut response =
        if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { Json(JobView::from(&job)).into_response() };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if !job.state.is_final() {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    waiting.note(headers);
    Ok(response)
}
