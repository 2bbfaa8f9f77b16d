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

#[cfg(test)]
mod tests {
    use offload_common::job::transition::{Event, Failure, Retry};
    use offload_common::testing::factory;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn the_result_comes_as_it_was_written() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let path = format!("/v1/jobs/{id}/result");
        let answer = app.get(&path).await;
        assert_eq!(answer.problem(ProblemType::NotFinished)["state"], "queued");
        assert_eq!(answer.header("retry-after"), "1");
        app.run(id, Event::Succeed, Some(factory::raw(r#"{"a":  1.50}"#))).await;
        let answer = app.get(&path).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"a":  1.50}"#));
        assert_eq!(answer.header("content-type"), "application/json");
    }

    #[tokio::test]
    async fn without_a_result_the_problem_tells_why() {
        let app = TestApp::start().await;
        let failed = app.submit(json!({})).await;
        let failure = Failure { code: "boom".to_owned(), message: "it broke".to_owned(), retry: Retry::Never };
        app.run(failed, Event::Fail(failure), None).await;
        let problem = app.get(&format!("/v1/jobs/{failed}/result")).await.problem(ProblemType::NoResult);
        assert_eq!((&problem["state"], &problem["error"]["code"]), (&json!("failed"), &json!("boom")));
        let cancelled = app.submit(json!({})).await;
        app.post(&format!("/v1/jobs/{cancelled}/cancel"), &[], "").await;
        let problem = app.get(&format!("/v1/jobs/{cancelled}/result")).await.problem(ProblemType::NoResult);
        assert_eq!((&problem["state"], &problem["error"]), (&json!("cancelled"), &json!(null)));
    }
}
