//! `GET /v1/schedules/{id}/preview`: when a schedule fires next.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use chrono::SecondsFormat;
use offload_common::clock;
use offload_common::job::ScheduleId;
use offload_common::schedule::{BadTiming, Schedule};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::routes::{Endpoint, Id};
use crate::timestamp::Timestamp;

const DEFAULT_COUNT: usize = 20;
const MAX_COUNT: usize = 1000;

/// The fires that come next.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Preview")]
struct PreviewView {
    /// In order.
    fires: Vec<PreviewedFire>,
}

/// A fire that comes.
#[derive(Serialize, JsonSchema)]
struct PreviewedFire {
    /// The nominal time.
    at: Timestamp,
    /// What the clocks of the schedule's zone show then.
    local: String,
    /// Why it is not simply what the pattern says: the clocks change, or its job is due later.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/schedules/{id}/preview", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let count = json!({ "type": "integer", "minimum": 1, "maximum": MAX_COUNT, "default": DEFAULT_COUNT });
    let time = json!({ "type": "string", "format": "date-time" });
    Operation::new("previewSchedule", "schedules", "See when a schedule fires next")
        .description("As if it were not paused. Just what every worker will do: all go by the same time zone database.")
        .of_a_schedule()
        .parameter(Parameter::query("count", "So many fires.", count))
        .parameter(Parameter::query("after", "After this time, rather than now.", time))
        .problems(&[ProblemType::InvalidParameter])
        .answer(Answer::json(200, "The fires.", schemas.of::<PreviewView>()))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["count", "after"]);
    let count = query.parse("count", |text| {
        let count = text.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
        count.ok_or_else(|| format!("must be a whole number from 1 to {MAX_COUNT}"))
    });
    let after = query.time("after").unwrap_or_else(clock::now);
    query.finish()?;
    let schedule = super::read(&app, ScheduleId(id)).await?;
    // A pattern that fires once in years is searched for day by day.
    let found = tokio::task::spawn_blocking(move || fires(&schedule, after, count.unwrap_or(DEFAULT_COUNT)));
    let found = found.await.map_err(|_| Problem::internal())?;
    let fires = found.map_err(|error| {
        tracing::error!(%error, "a schedule that is stored has no timing");
        Problem::internal()
    })?;
    Ok(Json(PreviewView { fires }).into_response())
}

fn fires(
    schedule: &Schedule,
    after: chrono::DateTime<chrono::Utc>,
    count: usize,
) -> Result<Vec<PreviewedFire>, BadTiming> {
    let timing = schedule.definition.timing(schedule.anchor)?;
    let previewed = timing.fires_after(after).take(count).map(|fire| {
        let jitter = schedule.definition.jitter(schedule.id, fire.at).as_secs_f64();
        let change = fire.change.map(|change| change.to_string());
        let jitter = (jitter > 0.0).then(|| format!("its job is due {jitter:.1} s later (jitter)"));
        let notes: Vec<String> = change.into_iter().chain(jitter).collect();
        PreviewedFire {
            at: fire.at.into(),
            local: timing.local(fire.at).to_rfc3339_opts(SecondsFormat::Secs, false),
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        }
    });
    Ok(previewed.collect())
}
