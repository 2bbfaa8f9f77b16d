//! `GET /v1/schedules/{id}/fires`: what became of a schedule's fires.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use chrono::DateTime;
use offload_common::job::ScheduleId;
use serde_json::json;

use crate::app::App;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::routes::{Endpoint, Id};
use crate::schedule_view::FireView;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/schedules/{id}/fires", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    Operation::new("listFires", "schedules", "List what became of a schedule's fires, latest first")
        .description(
            "Every fire that is past: fired, made up for, waiting, or left out, and why. Kept as long as jobs are.",
        )
        .of_a_schedule()
        .parameter(Parameter::query("limit", "Records per page.", limit))
        .parameter(Parameter::query("cursor", "From a `Link`; where the page begins.", json!({ "type": "string" })))
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "A page of records.", schemas.items_of::<FireView>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["limit", "cursor"]);
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let before = query.parse("cursor", |text| {
        let time = text.parse().ok().and_then(DateTime::from_timestamp_micros);
        time.ok_or_else(|| "must be taken from the `Link` of an earlier page".to_owned())
    });
    query.finish()?;
    let schedule = super::read(&app, ScheduleId(id)).await?;
    let mut records = app.ask(app.store.fires(schedule.id, before, limit + 1)).await?;
    let more = records.len() > limit as usize;
    records.truncate(limit as usize);
    let next = records.last().filter(|_| more).map(|last| last.verdict.fire_at.timestamp_micros().to_string());
    Ok(paging::page(records.iter().map(FireView::from).collect(), &uri, "cursor", next))
}
