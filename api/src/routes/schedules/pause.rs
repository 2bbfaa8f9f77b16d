//! `POST /v1/schedules/{id}/pause`: stops a schedule for a while.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use offload_common::job::ScheduleId;
use offload_common::schedule::Change;

use crate::app::App;
use crate::json_body;
use crate::openapi::{Operation, Schemas};
use crate::problem::Problem;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/schedules/{id}/pause", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("pauseSchedule", "schedules", "Pause a schedule")
        .description("It does not fire until it is resumed, and what would have fired meanwhile is not made up for. Jobs that it submitted run on. Pausing it again changes nothing.")
        .of_a_schedule()
        .may_match()
        .reads_json()
        .answer(super::shown(200, "The schedule as it is now.", schemas))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    json_body::read_nothing(&headers, body, app.server.max_body_bytes).await?;
    super::changed(&app, ScheduleId(id), &headers, |before| Ok((!before.paused).then_some(Change::Pause))).await
}
