//! `PATCH /v1/schedules/{id}`: changes a schedule.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use offload_common::clock;
use offload_common::job::ScheduleId;
use offload_common::schedule::Change;
use serde_json::json;

use crate::app::App;
use crate::json_body;
use crate::openapi::{Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::routes::{Endpoint, Id};
use crate::submission::schedule::{self, Rules};
use crate::submission::template;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::patch("/v1/schedules/{id}", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let schema = super::fields_schema(false);
    let content = json!({ "application/json": { "schema": schema.clone() }, "application/merge-patch+json": { "schema": schema } });
    Operation::new("changeSchedule", "schedules", "Change a schedule")
        .description(
            "Fields that are left out stay as they are, and `null` goes back to the default; `job` and `batch` are replaced as a whole, each by either. \
             Where the times change, the next fire is the first after now.",
        )
        .of_a_schedule()
        .may_match()
        .body(true, content)
        .reads_json()
        .problems(&[ProblemType::NameTaken])
        .answer(super::shown(200, "The schedule as it is now.", schemas))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = json_body::read(&headers, body, app.server.max_body_bytes).await?;
    let known = app.catalog.knowing_all(&template::kinds_of(&body)).await;
    super::changed(&app, ScheduleId(id), &headers, |before| {
        let rules =
            Rules { known: &known, queues: &app.queues, limits: &app.jobs, signs: app.signs, now: clock::now() };
        let (name, definition) = schedule::read(&body, before.id, Some(before), rules)?;
        Ok(Some(Change::Define(name, Box::new(definition))))
    })
    .await
}
