//! What clients see of a job.

use axum::http::HeaderValue;
use chrono::{DateTime, Utc};
use offload_common::job::{
    After, AfterPolicy, Attempt, ErrorInfo, Job, JobId, NewJob, Parents, Priority, Progress, SHOWN_PARENTS, State,
    WorkerId,
};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::timestamp::Timestamp;

/// A job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(crate) struct JobView<'a> {
    /// A UUIDv7: ids sort by time of creation.
    id: JobId,
    /// The kind's name.
    kind: &'a str,
    /// Where it queues.
    queue: &'a str,
    /// How urgent it is within its queue.
    priority: Priority,
    /// Where it stands; `succeeded`, `failed` and `cancelled` are final.
    state: State,
    /// Attempts started so far.
    attempt: u32,
    /// Attempts at most.
    max_attempts: u32,
    /// Seconds that one attempt may take.
    timeout_seconds: u64,
    /// How far it has come, once its handler said so.
    progress: Option<&'a Progress>,
    /// When it was accepted.
    created_at: Timestamp,
    /// When it is or was due; of a job that waits for its next attempt, when that is.
    run_at: Timestamp,
    /// When its last attempt started.
    started_at: Option<Timestamp>,
    /// When it became final.
    finished_at: Option<Timestamp>,
    /// Whether a client wants it cancelled while it runs.
    cancel_requested: bool,
    /// What it was submitted with.
    #[schemars(with = "Value")]
    payload: &'a RawValue,
    /// What it came to, once `succeeded`.
    #[schemars(with = "Value")]
    result: Option<&'a RawValue>,
    /// The last attempt's failure; also while it waits for a retry.
    error: Option<ErrorView<'a>>,
    /// Every failed attempt, oldest first.
    history: Vec<AttemptView<'a>>,
    /// The client's own object.
    #[serde(serialize_with = "object")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    metadata: Option<&'a RawValue>,
    /// For filters.
    tags: &'a [String],
    /// The worker that runs or last ran it.
    worker: Option<WorkerId>,
    /// The batch that it belongs to.
    batch_id: Option<Uuid>,
    /// The schedule that fired it.
    schedule_id: Option<Uuid>,
    /// The nominal time of that fire.
    fire_at: Option<Timestamp>,
    /// The job that it runs again.
    retry_of: Option<JobId>,
    /// The key that no other live job of its kind has.
    unique_key: Option<&'a str>,
    /// The jobs that it runs after, if any: `scheduled` until they have ended.
    parents: Option<ParentsView<'a>>,
    /// Where to go from here.
    links: Links,
}

/// The jobs that a job runs after.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Parents")]
struct ParentsView<'a> {
    /// How many they are.
    total: u32,
    /// How many of them it still waits for.
    waiting: u32,
    /// What becomes of it when one of them does not succeed.
    policy: AfterPolicy,
    /// Their ids, the first 100.
    jobs: &'a [JobId],
}

#[derive(Serialize, JsonSchema)]
struct Links {
    /// The job itself.
    #[serde(rename = "self")]
    this: String,
    /// What happens to it, as it happens.
    events: String,
    /// Its result, once `succeeded`.
    result: String,
    /// What its handler wrote.
    logs: String,
}

/// The failure of an attempt.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobError")]
pub(crate) struct ErrorView<'a> {
    /// A stable word for programs, such as `timeout`, `panic`, `worker_lost` or one of the kind's own.
    code: &'a str,
    /// What happened, for people.
    message: &'a str,
    /// Which attempt it was, from 1.
    attempt: u32,
    /// When it was recorded.
    at: Timestamp,
}

/// A failed attempt.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
struct AttemptView<'a> {
    /// From 1.
    attempt: u32,
    /// As in the job's `error`.
    code: &'a str,
    /// As in the job's `error`.
    message: &'a str,
    /// The worker that ran it, if one did.
    worker: Option<WorkerId>,
    /// When it started, if it did.
    started_at: Option<Timestamp>,
    /// When it was given up.
    ended_at: Timestamp,
}

impl<'a> From<&'a Job> for JobView<'a> {
    fn from(job: &'a Job) -> Self {
        Self {
            id: job.id,
            kind: &job.kind,
            queue: &job.lane.queue,
            priority: job.lane.priority,
            state: job.visible_state(),
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            timeout_seconds: job.timeout.as_secs(),
            progress: job.progress.as_ref(),
            created_at: job.created_at.into(),
            run_at: job.run_at.into(),
            started_at: job.started_at.map(Timestamp),
            finished_at: job.finished_at.map(Timestamp),
            cancel_requested: job.cancel_requested,
            payload: &job.payload,
            result: job.result.as_deref(),
            error: job.error.as_ref().map(ErrorView::from),
            history: job.history.iter().map(AttemptView::from).collect(),
            metadata: job.metadata.as_deref(),
            tags: &job.tags,
            worker: job.worker,
            batch_id: job.batch_id,
            schedule_id: job.schedule_id,
            fire_at: job.fire_at.map(Timestamp),
            retry_of: job.retry_of,
            unique_key: job.unique_key.as_deref(),
            parents: job.parents.as_ref().map(ParentsView::from),
            links: Links::of(job.id),
        }
    }
}

impl<'a> From<&'a Parents> for ParentsView<'a> {
    fn from(parents: &'a Parents) -> Self {
        let Parents { total, waiting, policy, first } = parents;
        Self { total: *total, waiting: *waiting, policy: *policy, jobs: first }
    }
}

impl<'a> From<&'a ErrorInfo> for ErrorView<'a> {
    fn from(error: &'a ErrorInfo) -> Self {
        Self { code: &error.code, message: &error.message, attempt: error.attempt, at: error.at.into() }
    }
}

impl<'a> From<&'a Attempt> for AttemptView<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            code: &attempt.code,
            message: &attempt.message,
            worker: attempt.worker,
            started_at: attempt.started_at.map(Timestamp),
            ended_at: attempt.ended_at.into(),
        }
    }
}

impl Links {
    fn of(job: JobId) -> Self {
        let this = job_path(job);
        Self { events: format!("{this}/events"), result: format!("{this}/result"), logs: format!("{this}/logs"), this }
    }
}

/// Where a job is.
pub(crate) fn job_path(job: JobId) -> String {
    format!("/v1/jobs/{job}")
}

/// What is not there is an empty object.
pub(crate) fn object<S: Serializer>(value: &Option<&RawValue>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.collect_map::<&str, &str, _>([]),
    }
}

/// Changes whenever the job looks different to a client. Weak, as it says nothing about bytes.
pub(crate) fn etag(job: &Job) -> Option<HeaderValue> {
    let progress = job.progress.as_ref().map(|p| (p.fraction.to_bits(), p.message.as_deref()));
    let waiting = job.parents.as_ref().map(|parents| parents.waiting);
    let seen = format!("{} {:?} {} {progress:?} {waiting:?}", job.epoch, job.visible_state(), job.cancel_requested);
    let hash: String = Sha256::digest(seen).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("W/\"{hash}\"")).ok()
}

/// A job that was accepted just now, as it reads in the store.
pub(crate) fn accepted(new: NewJob, state: State, created_at: DateTime<Utc>, run_at: DateTime<Utc>) -> Job {
    let parents = new.after.map(|After { mut jobs, policy }| {
        let total = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        jobs.truncate(SHOWN_PARENTS as usize);
        Parents { total, waiting: total, policy, first: jobs }
    });
    Job {
        id: new.id,
        tenant: new.tenant,
        kind: new.kind,
        lane: new.lane,
        state,
        epoch: 0,
        attempt: 0,
        max_attempts: new.max_attempts,
        losses: 0,
        cancel_requested: false,
        progress: None,
        created_at,
        run_at,
        due: run_at <= created_at && parents.is_none(),
        queued_at: None,
        started_at: None,
        finished_at: None,
        timeout: new.timeout,
        payload: new.payload,
        result: None,
        error: None,
        history: Vec::new(),
        metadata: new.metadata,
        tags: new.tags,
        batch_id: None,
        schedule_id: new.fired_by.map(|fire| fire.schedule.0),
        fire_at: new.fired_by.map(|fire| fire.at),
        retry_of: new.retry_of,
        worker: None,
        unique_key: new.unique.map(|unique| unique.key),
        parents,
    }
}
