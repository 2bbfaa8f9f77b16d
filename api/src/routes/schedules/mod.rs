//! `/v1/schedules`.

pub(super) mod change;
pub(super) mod create;
pub(super) mod fires;
pub(super) mod get;
pub(super) mod list;
pub(super) mod pause;
pub(super) mod preview;
pub(super) mod remove;
pub(super) mod resume;
pub(super) mod run;
#[cfg(test)]
mod tests;

use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::Response;
use offload_common::job::ScheduleId;
use offload_common::schedule::{Change, MAX_BATCH_JOBS, Schedule};
use offload_common::store::Changed;
use serde_json::{Value, json};

use crate::app::App;
use crate::conditional::if_match;
use crate::openapi::{Answer, Schemas, batch_schema, submission_schema};
use crate::problem::{Problem, ProblemType};
use crate::request::TENANT;
use crate::schedule_view::{self, ScheduleView, etag};
use crate::submission::schedule::{DEFAULT_MAX_MISSED, MAX_NAME_CHARS};

/// A change that finds the schedule changed by others in between is made anew so often.
const TRIES: usize = 5;

async fn read(app: &App, id: ScheduleId) -> Result<Schedule, Problem> {
    let schedule = app.ask(app.store.schedule(TENANT, id)).await?;
    schedule.ok_or_else(|| missing(id))
}

fn missing(id: ScheduleId) -> Problem {
    Problem::not_found(format_args!("there is no schedule {id}"))
}

fn name_taken(id: ScheduleId) -> Problem {
    Problem::new(ProblemType::NameTaken, format_args!("the schedule {id} has this name")).with("id", id.to_string())
}

fn outdated(version: i64) -> Problem {
    Problem::new(ProblemType::PreconditionFailed, "the schedule has changed since; the header ETag has its version")
        .header(ETAG, etag(version))
}

/// The schedule, unless `If-Match` names another version of it.
async fn matching(app: &App, id: ScheduleId, headers: &HeaderMap) -> Result<Schedule, Problem> {
    let schedule = read(app, id).await?;
    match if_match(headers, &etag(schedule.version)) {
        Some(false) => Err(outdated(schedule.version)),
        Some(true) | None => Ok(schedule),
    }
}

/// Makes the change that `decide` reads off the schedule as it is, and answers with what it is then. `None` is no change.
async fn changed(
    app: &App,
    id: ScheduleId,
    headers: &HeaderMap,
    decide: impl Fn(&Schedule) -> Result<Option<Change>, Problem>,
) -> Result<Response, Problem> {
    for _ in 0..TRIES {
        let before = matching(app, id, headers).await?;
        let Some(change) = decide(&before)? else {
            return Ok(schedule_view::answer(StatusCode::OK, &before, app).await);
        };
        match app.ask(app.store.change_schedule(TENANT, id, Some(before.version), &change)).await? {
            Changed::Done(after) => return Ok(schedule_view::answer(StatusCode::OK, &after, app).await),
            Changed::NameTaken(other) => return Err(name_taken(other)),
            Changed::Missing => return Err(missing(id)),
            // Whoever named a version is told by the next look; for whoever did not, this comes after the other change.
            Changed::Conflict(_) => {}
        }
    }
    Err(Problem::new(ProblemType::PreconditionFailed, "others keep changing the schedule; send the request again"))
}

/// The answer that shows a schedule.
fn shown(status: u16, description: &'static str, schemas: &mut Schemas) -> Answer {
    Answer::json(status, description, schemas.of::<ScheduleView<'_>>())
        .header("ETag", "The version of the schedule: changes when somebody changes it, not when it fires.")
}

/// The schema of a schedule's fields, as a client writes them.
fn fields_schema(required: bool) -> Value {
    let time =
        |description: &str| json!({ "type": ["string", "null"], "format": "date-time", "description": description });
    let mut batch = batch_schema(true, &submission_schema());
    batch["type"] = json!(["object", "null"]);
    batch["description"] =
        "What is submitted: a batch, in place of a job. Its jobs come for no unique keys, and after no others.".into();
    batch["properties"]["jobs"]["maxItems"] = MAX_BATCH_JOBS.into();
    if let Some(properties) = batch["properties"].as_object_mut() {
        properties.remove("sealed");
    }
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "minLength": 1, "maxLength": MAX_NAME_CHARS, "description": "No other schedule has it." },
            "cron": {
                "type": ["string", "null"],
                "description": "Five fields, or six with seconds in front, or a nickname such as `@hourly`. Excludes `every_seconds`.",
                "examples": ["30 2 * * MON-FRI"],
            },
            "every_seconds": {
                "type": ["integer", "null"], "minimum": 1, "maximum": 315_360_000,
                "description": "An interval, counted from `starts_at`, or else from the making of the schedule. Excludes `cron`.",
            },
            "time_zone": { "type": ["string", "null"], "description": "An IANA zone.", "default": "UTC", "examples": ["Europe/Berlin"] },
            "starts_at": time("Not before this time."),
            "ends_at": time("Not after this time."),
            "jitter_seconds": {
                "type": ["number", "null"], "minimum": 0, "maximum": 86_400, "default": 0,
                "description": "Each job is due up to so many seconds after its fire.",
            },
            "missed": {
                "enum": ["skip", "one", "all", null], "default": "one",
                "description": "What becomes of fires that nothing was there to make: left out, made up for by one, or each.",
            },
            "max_missed": {
                "type": ["integer", "null"], "minimum": 1, "maximum": 1000, "default": DEFAULT_MAX_MISSED,
                "description": "With `all`, so many of the latest at most.",
            },
            "overlap": {
                "enum": ["allow", "skip", "queue", "cancel_previous", null], "default": "skip",
                "description": "What becomes of a fire while what the one before it submitted has not come to its end.",
            },
            "job": {
                "anyOf": [submission_schema(), { "type": "null" }],
                "description": "What is submitted, without a time of its own. Strings in the payload and the unique key may hold \
                                `{{fire.at}}`, `{{fire.local}}`, `{{fire.date}}`, `{{fire.time}}`, `{{fire.unix}}`, \
                                `{{schedule.id}}` and `{{schedule.name}}`. Excludes `batch`.",
            },
            "batch": batch,
        },
    });
    if required {
        schema["required"] = json!(["name"]);
        schema["anyOf"] = json!([{ "required": ["job"] }, { "required": ["batch"] }]);
    }
    schema
}
