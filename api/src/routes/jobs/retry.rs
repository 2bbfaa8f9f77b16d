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
use crate::request::{RequestInfo, TENANT};
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
    let deadline = app.deadline();
    let job = app.job_until(deadline, JobId(id)).await?;
    if !job.state.is_final() {
        let problem = Problem::new(ProblemType::NotFinished, describe_state(&job));
        return Err(problem.with("state", job.visible_state().as_str()).retry_after(RETRY_AFTER_SECONDS));
    }
    let callback = app.ask_until(deadline, app.store.callback(TENANT, id)).await?;
    super::accept(&app, &request, Submission::again(job, callback), key, &waiting, deadline).await
}

#[cfg(test)]
mod tests {
    use offload_common::job::JobId;
    use offload_common::job::transition::Event;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn a_final_job_runs_again_as_a_new_one() {
        let app = TestApp::start().await;
        let settings = json!({
            "queue": "reports", "priority": "low", "max_attempts": 3, "timeout_seconds": 9,
            "metadata": {"a": 1}, "tags": ["t"],
        });
        let id = app.submit(settings).await;
        let path = format!("/v1/jobs/{id}/retry");
        let problem = app.post(&path, &[], "").await.problem(ProblemType::NotFinished);
        assert_eq!(problem["state"], "queued");
        app.run(id, Event::Succeed, None).await;
        let old = app.get(&format!("/v1/jobs/{id}")).await.json();
        let answer = app.post(&path, &[], "").await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let new = answer.json();
        assert_ne!(new["id"], old["id"]);
        assert_eq!(new["retry_of"], old["id"]);
        assert_eq!(answer.header("location"), format!("/v1/jobs/{}", new["id"].as_str().expect("an id")));
        assert_eq!(new["state"], "queued");
        for same in ["kind", "payload", "queue", "priority", "max_attempts", "timeout_seconds", "metadata", "tags"] {
            assert_eq!(new[same], old[same], "{same}");
        }
        assert_eq!(app.get(&format!("/v1/jobs/{id}")).await.json(), old, "the old one stays as it is");
    }

    #[tokio::test]
    async fn a_key_makes_it_once_and_is_tied_to_the_job() {
        let app = TestApp::start().await;
        let jobs = [app.submit(json!({})).await, app.submit(json!({})).await];
        for job in jobs {
            app.run(job, Event::Succeed, None).await;
        }
        let key = [("idempotency-key", "k")];
        let first = app.post(&format!("/v1/jobs/{}/retry", jobs[0]), &key, "").await;
        let again = app.post(&format!("/v1/jobs/{}/retry", jobs[0]), &key, "").await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
        assert_eq!(again.json()["id"], first.json()["id"]);
        let other = app.post(&format!("/v1/jobs/{}/retry", jobs[1]), &key, "").await;
        other.problem(ProblemType::IdempotencyKeyReused);
    }

    #[tokio::test]
    async fn there_must_be_a_job() {
        let app = TestApp::start().await;
        app.post(&format!("/v1/jobs/{}/retry", JobId::new()), &[], "").await.problem(ProblemType::NotFound);
        app.post("/v1/jobs/1/retry", &[], "").await.problem(ProblemType::NotFound);
    }
}
