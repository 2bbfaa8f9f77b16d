//! What clients see of a schedule and of its fires.

use axum::Json;
use axum::http::header::ETAG;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use offload_common::job::{BatchId, JobId, Priority, ScheduleId};
use offload_common::schedule::{
    BatchTemplate, Counts, JobTemplate, Missed, Outcome, Overlap, Reason, Recurrence, Schedule, Submitted, Template,
};
use offload_common::store::FireRecord;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::app::App;
use crate::catalog::Known;
use crate::timestamp::Timestamp;

/// A schedule.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Schedule")]
pub(crate) struct ScheduleView<'a> {
    /// A UUIDv7: ids sort by time of creation.
    id: ScheduleId,
    /// What it is called; no other has this name.
    name: &'a str,
    /// The cron pattern that it fires by, unless it fires at intervals.
    cron: Option<&'a str>,
    /// The interval that it fires at, unless it fires by a pattern.
    every_seconds: Option<u64>,
    /// The IANA zone whose clocks it goes by.
    time_zone: &'a str,
    /// It does not fire before.
    starts_at: Option<Timestamp>,
    /// It does not fire after.
    ends_at: Option<Timestamp>,
    /// Each job is due up to so many seconds after its fire.
    jitter_seconds: f64,
    /// What becomes of fires that were missed.
    missed: Missed,
    /// With `missed` of `all`, how many of the latest are made up for at most.
    max_missed: u32,
    /// What becomes of a fire while what the one before it submitted has not come to its end.
    overlap: Overlap,
    /// What it submits, unless that is a batch.
    job: Option<TemplateView<'a>>,
    /// What it submits, unless that is a job.
    batch: Option<BatchTemplateView<'a>>,
    /// Whether it fires at all for now.
    paused: bool,
    /// The next fire; none while it is paused, and after its end.
    next_at: Option<Timestamp>,
    /// The last fire that something was submitted for.
    last_fire_at: Option<Timestamp>,
    /// The job that was, if it was one.
    last_job_id: Option<JobId>,
    /// The batch that was, if it was one.
    last_batch_id: Option<BatchId>,
    /// How many fires wait for it to come to its end.
    waiting: u32,
    /// What has become of its fires so far.
    counts: Counts,
    /// What keeps it from firing, or its jobs from running, if anything does.
    problem: Option<String>,
    /// When it was made.
    created_at: Timestamp,
    /// When a client changed it last.
    updated_at: Timestamp,
    /// Where to go from here.
    links: Links,
}

/// A job that a schedule submits. Strings in the payload and the unique key may hold placeholders for the time of the fire.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduledJob")]
struct TemplateView<'a> {
    /// The kind's name.
    kind: &'a str,
    /// The payload, as it was written.
    #[schemars(with = "Value")]
    payload: &'a RawValue,
    /// Where it queues.
    queue: &'a str,
    /// How urgent it is within its queue.
    priority: Priority,
    /// Attempts at most.
    max_attempts: u32,
    /// Seconds that one attempt may take.
    timeout_seconds: u64,
    /// The client's own object.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    metadata: Option<&'a RawValue>,
    /// For filters.
    tags: &'a [String],
    /// Of the live jobs of the kind, one has it: a fire that finds it taken is skipped.
    unique_key: Option<&'a str>,
}

/// A batch that a schedule submits.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduledBatch")]
struct BatchTemplateView<'a> {
    /// How many jobs it has.
    total: usize,
    /// Them, with the batch's defaults filled in; a list leaves them out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    jobs: Vec<TemplateView<'a>>,
    /// The job that follows its end.
    follow_up: Option<TemplateView<'a>>,
    /// The client's own object.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduleLinks")]
struct Links {
    /// The schedule itself.
    #[serde(rename = "self")]
    this: String,
    /// What became of its fires.
    fires: String,
    /// When it fires next.
    preview: String,
    /// The jobs that it submitted.
    jobs: String,
}

/// What became of a fire, or of several in a row that were left out.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FireRecord")]
pub(crate) struct FireView {
    /// The nominal time; of several, the first.
    fire_at: Timestamp,
    /// Of several, the last; else the same.
    through: Timestamp,
    /// How many there are; of a long absence, 10000 stands for that many or more.
    count: u32,
    /// What became of it.
    outcome: Outcome,
    /// Why it was not simply fired.
    reason: Option<Reason>,
    /// The job that was submitted for it, if it was one. It may be past its retention.
    job_id: Option<JobId>,
    /// The batch that was submitted for it, if it was one.
    batch_id: Option<BatchId>,
    /// When this was decided.
    recorded_at: Timestamp,
}

impl<'a> ScheduleView<'a> {
    pub(crate) fn new(schedule: &'a Schedule, app: &App, known: &Known) -> Self {
        let definition = &schedule.definition;
        let (cron, every_seconds) = match &definition.recurrence {
            Recurrence::Cron(pattern) => (Some(pattern.as_str()), None),
            Recurrence::EverySeconds(seconds) => (None, Some(*seconds)),
        };
        let (job, batch) = match &definition.template {
            Template::Job(job) => (Some(TemplateView::from(job)), None),
            Template::Batch { batch } => (None, Some(BatchTemplateView::from(batch))),
        };
        let path = path(schedule.id);
        Self {
            id: schedule.id,
            name: &schedule.name,
            cron,
            every_seconds,
            time_zone: &definition.time_zone,
            starts_at: definition.starts_at.map(Timestamp),
            ends_at: definition.ends_at.map(Timestamp),
            jitter_seconds: definition.jitter_seconds,
            missed: definition.missed,
            max_missed: definition.max_missed,
            overlap: definition.overlap,
            job,
            batch,
            paused: schedule.paused,
            next_at: schedule.next_at.map(Timestamp),
            last_fire_at: schedule.last_fire_at.map(Timestamp),
            last_job_id: schedule.last.and_then(Submitted::job),
            last_batch_id: schedule.last.and_then(Submitted::batch),
            waiting: schedule.waiting,
            counts: schedule.counts,
            problem: problem(schedule, app, known),
            created_at: schedule.created_at.into(),
            updated_at: schedule.updated_at.into(),
            links: Links {
                fires: format!("{path}/fires"),
                preview: format!("{path}/preview"),
                jobs: format!("/v1/jobs?schedule_id={}", schedule.id),
                this: path,
            },
        }
    }

    /// As in a list.
    pub(crate) fn without_jobs(mut self) -> Self {
        if let Some(batch) = &mut self.batch {
            batch.jobs.clear();
        }
        self
    }
}

/// What keeps it from firing, or its jobs from running.
fn problem(schedule: &Schedule, app: &App, known: &Known) -> Option<String> {
    if let Some(trouble) = &schedule.trouble {
        return Some(format!("it could not fire: {}; it is tried again every 30 s", trouble.message));
    }
    schedule.definition.template.jobs().find_map(|job| {
        let own_queue = known.kinds.get(&job.kind).is_some_and(|spec| spec.queue == job.queue);
        if !own_queue && !app.queues.contains(&job.queue) {
            return Some(format!("the queue `{}` is not configured (any more): its jobs wait", job.queue));
        }
        (!known.is_live(&job.kind)).then(|| format!("no live worker offers the kind `{}`: its jobs wait", job.kind))
    })
}

impl<'a> From<&'a BatchTemplate> for BatchTemplateView<'a> {
    fn from(batch: &'a BatchTemplate) -> Self {
        Self {
            total: batch.jobs.len(),
            jobs: batch.jobs.iter().map(TemplateView::from).collect(),
            follow_up: batch.follow_up.as_ref().map(TemplateView::from),
            metadata: batch.metadata.as_deref(),
        }
    }
}

impl<'a> From<&'a JobTemplate> for TemplateView<'a> {
    fn from(job: &'a JobTemplate) -> Self {
        Self {
            kind: &job.kind,
            payload: &job.payload,
            queue: &job.queue,
            priority: job.priority,
            max_attempts: job.max_attempts,
            timeout_seconds: job.timeout_seconds,
            metadata: job.metadata.as_deref(),
            tags: &job.tags,
            unique_key: job.unique_key.as_deref(),
        }
    }
}

impl From<&FireRecord> for FireView {
    fn from(record: &FireRecord) -> Self {
        Self {
            fire_at: record.verdict.fire_at.into(),
            through: record.verdict.through.into(),
            count: record.verdict.count,
            outcome: record.verdict.outcome,
            reason: record.verdict.reason,
            job_id: record.submitted.and_then(Submitted::job),
            batch_id: record.submitted.and_then(Submitted::batch),
            recorded_at: record.recorded_at.into(),
        }
    }
}

/// Where a schedule is.
pub(crate) fn path(id: ScheduleId) -> String {
    format!("/v1/schedules/{id}")
}

/// Its version: it changes when somebody changes the schedule, and not when it fires.
pub(crate) fn etag(version: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A schedule as an answer.
pub(crate) async fn answer(status: StatusCode, schedule: &Schedule, app: &App) -> Response {
    let known = app.catalog.known().await;
    let mut response = (status, Json(ScheduleView::new(schedule, app, &known))).into_response();
    response.headers_mut().insert(ETAG, etag(schedule.version));
    response
}
