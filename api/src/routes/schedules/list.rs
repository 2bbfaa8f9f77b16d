//! `GET /v1/schedules`: lists schedules, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use offload_common::job::ScheduleId;
use offload_common::store::ScheduleFilter;
use serde_json::json;

use crate::app::App;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::TENANT;
use crate::routes::Endpoint;
use crate::schedule_view::ScheduleView;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/schedules", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    Operation::new("listSchedules", "schedules", "List schedules, newest first")
        .parameter(Parameter::query("name", "Called this.", text()))
        .parameter(Parameter::query("limit", "Schedules per page.", limit))
        .parameter(Parameter::query("cursor", "From a `Link`; where the page begins.", text()))
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "A page of schedules.", schemas.items_of::<ScheduleView<'_>>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["name", "limit", "cursor"]);
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let filter = ScheduleFilter {
        tenant: TENANT.to_owned(),
        name: query.text("name"),
        before: query.parse("cursor", cursor),
        // One more than asked for tells whether there is a next page.
        limit: limit + 1,
    };
    query.finish()?;
    let mut schedules = app.ask(app.store.schedules(&filter)).await?;
    let more = schedules.len() > limit as usize;
    schedules.truncate(limit as usize);
    let next = schedules.last().filter(|_| more).map(|schedule| schedule.id.0.simple().to_string());
    let known = app.catalog.known().await;
    let views = schedules.iter().map(|schedule| ScheduleView::new(schedule, &app, &known).without_jobs()).collect();
    Ok(paging::page(views, &uri, "cursor", next))
}

fn cursor(text: &str) -> Result<ScheduleId, String> {
    text.parse().map_err(|_| "must be taken from the `Link` of an earlier page".to_owned())
}
