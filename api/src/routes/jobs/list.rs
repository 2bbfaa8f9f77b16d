//! `GET /v1/jobs`: lists jobs, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use offload_common::job::{JobId, State as JobState};
use offload_common::store::JobFilter;
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::request::TENANT;
use crate::routes::Endpoint;
use crate::view::JobView;

const PARAMETERS: [&str; 10] =
    ["state", "kind", "queue", "batch_id", "schedule_id", "tag", "created_after", "created_before", "limit", "cursor"];

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    let id = || json!({ "type": "string", "format": "uuid" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    Operation::new("listJobs", "jobs", "List jobs, newest first")
        .description("Every filter that is given must match. The next page is where `Link` with `rel=\"next\"` points.")
        .parameter(Parameter::query("state", "In this state.", json!({ "enum": JobState::ALL })))
        .parameter(Parameter::query("kind", "Of this kind.", text()))
        .parameter(Parameter::query("queue", "In this queue.", text()))
        .parameter(Parameter::query("batch_id", "Of this batch.", id()))
        .parameter(Parameter::query("schedule_id", "Fired by this schedule.", id()))
        .parameter(Parameter::query("tag", "Carrying this tag.", text()))
        .parameter(Parameter::query("created_after", "Accepted at this time or later.", time()))
        .parameter(Parameter::query("created_before", "Accepted before this time.", time()))
        .parameter(Parameter::query("limit", "Jobs per page.", limit))
        .parameter(Parameter::query("cursor", "From a `Link`; where the page begins.", text()))
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "A page of jobs.", schemas.items_of::<JobView<'_>>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &PARAMETERS);
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let filter = JobFilter {
        tenant: TENANT.to_owned(),
        state: query.value("state"),
        kind: query.text("kind"),
        queue: query.text("queue"),
        batch_id: query.parse("batch_id", id),
        schedule_id: query.parse("schedule_id", id),
        tag: query.text("tag"),
        created_after: query.time("created_after"),
        created_before: query.time("created_before"),
        before: query.parse("cursor", cursor),
        // One more than asked for tells whether there is a next page.
        limit: limit + 1,
    };
    query.finish()?;
    let mut jobs = app.ask(app.store.jobs(&filter)).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next = jobs.last().filter(|_| more).map(|job| job.id.0.simple().to_string());
    Ok(paging::page(jobs.iter().map(JobView::from).collect(), &uri, "cursor", next))
}

fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "must be an id".to_owned())
}

/// A cursor is the id of the last job of the page before. Clients are not told: what it is made of may change.
fn cursor(text: &str) -> Result<JobId, String> {
    text.parse().map_err(|_| "must be taken from the `Link` of an earlier page".to_owned())
}
