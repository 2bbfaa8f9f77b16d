//! `GET /v1/schedules/{id}`: reads a schedule.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use offload_common::job::ScheduleId;

use crate::app::App;
use crate::openapi::{Operation, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};
use crate::schedule_view;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/schedules/{id}", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("getSchedule", "schedules", "Read a schedule").of_a_schedule().answer(super::shown(
        200,
        "The schedule.",
        schemas,
    ))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id) -> Result<Response, Problem> {
    let schedule = super::read(&app, ScheduleId(id)).await?;
    Ok(schedule_view::answer(StatusCode::OK, &schedule, &app).await)
}
