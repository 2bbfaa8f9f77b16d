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
