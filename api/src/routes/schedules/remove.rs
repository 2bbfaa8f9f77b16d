//! `DELETE /v1/schedules/{id}`: removes a schedule.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use offload_common::job::ScheduleId;
use offload_common::store::Removed;

use crate::app::App;
use crate::conditional::if_match;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::Problem;
use crate::request::TENANT;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::delete("/v1/schedules/{id}", handle, describe)
}

fn describe(_schemas: &mut Schemas) -> Operation {
    Operation::new("removeSchedule", "schedules", "Remove a schedule")
        .description("It does not fire any more. Jobs that it submitted stay, and run; fires that wait are forgotten.")
        .of_a_schedule()
        .may_match()
        .answer(Answer::empty(204, "It is gone."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let id = ScheduleId(id);
    let schedule = super::matching(&app, id, &headers).await?;
    let expected = if_match(&headers, &crate::schedule_view::etag(schedule.version)).map(|_| schedule.version);
    match app.ask(app.store.remove_schedule(TENANT, id, expected)).await? {
        Removed::Done => Ok(StatusCode::NO_CONTENT),
        Removed::Missing => Err(super::missing(id)),
        Removed::Conflict(version) => Err(super::outdated(version)),
    }
}
