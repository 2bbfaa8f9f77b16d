//! `POST /v1/schedules`: makes a schedule.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use offload_common::clock;
use offload_common::job::ScheduleId;
use offload_common::store::{Changed, NewSchedule};
use serde_json::json;

use crate::app::App;
use crate::json_body;
use crate::openapi::{Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::TENANT;
use crate::routes::Endpoint;
use crate::schedule_view;
use crate::submission::schedule::{self, Rules};
use crate::submission::template;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/schedules", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let made = super::shown(201, "The schedule.", schemas).header("Location", "The schedule.");
    Operation::new("createSchedule", "schedules", "Make a schedule")
        .description(
            "It submits its job, or its batch, at every fire, once, however many processes there are. The name is unique, so a request that \
             is sent again makes no second schedule: it is told the `id` of the first.",
        )
        .body(true, json!({ "application/json": { "schema": super::fields_schema(true) } }))
        .reads_json()
        .asks_the_database()
        .problems(&[ProblemType::NameTaken])
        .answer(made)
}

async fn handle(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let body = json_body::read(&headers, body, app.server.max_body_bytes).await?;
    let known = app.catalog.knowing_all(&template::kinds_of(&body)).await;
    let rules = Rules { known: &known, queues: &app.queues, limits: &app.jobs, signs: app.signs, now: clock::now() };
    let id = ScheduleId::new();
    let (name, definition) = schedule::read(&body, id, None, rules)?;
    let new = NewSchedule { id, tenant: TENANT.to_owned(), name, definition };
    match app.ask(app.store.add_schedule(&new)).await? {
        Changed::Done(made) => {
            let mut response = schedule_view::answer(StatusCode::CREATED, &made, &app).await;
            if let Ok(location) = HeaderValue::try_from(schedule_view::path(made.id)) {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
        Changed::NameTaken(other) => Err(super::name_taken(other)),
        Changed::Conflict(_) | Changed::Missing => Err(Problem::internal()),
    }
}
