//! `POST /v1/jobs/{id}/cancel`: cancels a job, also while it runs.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use offload_common::broker::Signal;
use offload_common::job::JobId;
use offload_common::store::Cancelled;

use crate::app::App;
use crate::json_body;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::TENANT;
use crate::routes::{Endpoint, Id};
use crate::view::JobView;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/jobs/{id}/cancel", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let cancelled = "The job: `cancelled` if it had not started, else with `cancel_requested` until its worker has \
                     stopped it. Cancelling it again changes nothing.";
    Operation::new("cancelJob", "jobs", "Cancel a job")
        .of_a_job()
        .reads_json()
        .problems(&[ProblemType::AlreadyFinished])
        .answer(Answer::json(202, cancelled, schemas.of::<JobView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    let id = JobId(id);
    match app.ask(app.store.cancel(TENANT, id)).await? {
        None => return Err(Problem::not_found(format_args!("there is no job {id}"))),
        Some(Cancelled::TooLate(state)) => {
            let problem = Problem::new(ProblemType::AlreadyFinished, format_args!("job {id} has {state}"));
            return Err(problem.with("state", state.as_str()));
        }
        Some(Cancelled::Requested) => app.broker.signal(Signal::Cancel(vec![id])).await,
        // Whoever waits for the job hears of it at once.
        Some(Cancelled::Now) => app.broker.signal(Signal::Changed(vec![id])).await,
    }
    let job = app.job(id).await?;
    Ok((StatusCode::ACCEPTED, Json(JobView::from(&job))).into_response())
}

#[cfg(test)]
mod tests {
    use offload_common::broker::{Broker, Signal, Topic};
    use offload_common::job::JobId;
    use offload_common::job::transition::Event;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn what_has_not_started_is_cancelled_at_once_and_once_more() {
        let app = TestApp::start().await;
        for more in [json!({}), json!({"delay_seconds": 60})] {
            let path = format!("/v1/jobs/{}/cancel", app.submit(more).await);
            for body in ["", "{}"] {
                let answer = app.post(&path, &[], body).await;
                assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("cancelled")));
            }
        }
    }

    #[tokio::test]
    async fn what_runs_is_told_to_its_worker() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let (_session, _lease) = app.claim(id).await;
        let mut signals = app.broker.listen(Topic::Cancel).await;
        let answer = app.post(&format!("/v1/jobs/{id}/cancel"), &[], "").await;
        assert_eq!(answer.status, 202);
        assert_eq!((&answer.json()["state"], &answer.json()["cancel_requested"]), (&json!("running"), &json!(true)));
        assert_eq!(signals.next().await, Some(Signal::Cancel(vec![id])));
    }

    #[tokio::test]
    async fn what_has_finished_stays_as_it_is() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        app.run(id, Event::Succeed, None).await;
        let problem = app.post(&format!("/v1/jobs/{id}/cancel"), &[], "").await.problem(ProblemType::AlreadyFinished);
        assert_eq!(problem["state"], "succeeded");
        app.post(&format!("/v1/jobs/{}/cancel", JobId::new()), &[], "").await.problem(ProblemType::NotFound);
    }

    #[tokio::test]
    async fn a_body_that_would_be_ignored_is_refused() {
        let app = TestApp::start().await;
        let path = format!("/v1/jobs/{}/cancel", app.submit(json!({})).await);
        app.post(&path, &[], r#"{"reason": "x"}"#).await.problem(ProblemType::Validation);
        app.post(&path, &[], "{").await.problem(ProblemType::MalformedJson);
    }
}
