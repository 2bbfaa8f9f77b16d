//! What a callback says, and the job that says it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Callback, Event, KIND, MAX_ATTEMPTS};
use crate::RawJson;
use crate::job::{Attempt, ErrorInfo, Job, JobId, Lane, NewJob, Priority};
use crate::retry::RetryPolicy;

/// The longest result that is sent along, in bytes: a longer one is to be fetched.
const MAX_RESULT_BYTES: usize = 64 << 10;

/// The time that one try may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The payload of a job of the kind [`KIND`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// Where to.
    pub url: String,
    /// The job or the batch that ended. What signs the message is found by it.
    pub subject: Uuid,
    /// What is sent, to the byte.
    #[schemars(with = "serde_json::Value")]
    pub body: RawJson,
}

/// The body of a message.
#[derive(Serialize)]
struct Message<Data> {
    #[serde(rename = "type")]
    event: Event,
    timestamp: DateTime<Utc>,
    data: Data,
}

#[derive(Serialize)]
struct JobData<'a> {
    id: JobId,
    kind: &'a str,
    queue: &'a str,
    priority: Priority,
    state: &'static str,
    attempt: u32,
    max_attempts: u32,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    result: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    result_left_out: bool,
    error: Option<&'a ErrorInfo>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    history: &'a [Attempt],
    metadata: Option<&'a RawJson>,
    tags: &'a [String],
    batch_id: Option<Uuid>,
    schedule_id: Option<Uuid>,
    fire_at: Option<DateTime<Utc>>,
    retry_of: Option<JobId>,
}

/// A batch at the first moment that all its jobs are final.
#[derive(Clone, Debug, Serialize)]
pub struct BatchEnd {
    /// Its id.
    pub id: Uuid,
    /// How many jobs it has.
    pub total: i64,
    /// How many of them succeeded, failed and were cancelled.
    pub counts: Ends,
    /// The client's own object.
    pub metadata: Option<RawJson>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its last job ended.
    pub finished_at: DateTime<Utc>,
}

/// How the jobs of a batch ended.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ends {
    /// With a result.
    pub succeeded: i64,
    /// With an error.
    pub failed: i64,
    /// By a wish.
    pub cancelled: i64,
}

/// The job that tells of the end of `job`; `None` if that is not wanted.
///
/// # Errors
/// Where what is stored cannot be written as JSON.
pub fn of_job(callback: &Callback, job: &Job) -> serde_json::Result<Option<NewJob>> {
    let Some(event) = Event::of_job(job.state).filter(|event| callback.events.contains(event)) else { return Ok(None) };
    let fits = |result: &&RawJson| result.get().len() <= MAX_RESULT_BYTES;
    let data = JobData {
        id: job.id,
        kind: &job.kind,
        queue: &job.lane.queue,
        priority: job.lane.priority,
        state: job.state.as_str(),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        created_at: job.created_at,
        started_at: job.started_at,
        finished_at: job.finished_at,
        result: job.result.as_ref().filter(fits),
        result_left_out: job.result.as_ref().is_some_and(|result| !fits(&result)),
        error: job.error.as_ref(),
        history: &job.history,
        metadata: job.metadata.as_ref(),
        tags: &job.tags,
        batch_id: job.batch_id,
        schedule_id: job.schedule_id,
        fire_at: job.fire_at,
        retry_of: job.retry_of,
    };
    let timestamp = job.finished_at.unwrap_or(job.created_at);
    let message = Message { event, timestamp, data };
    new_job(callback, job.id.0, &job.tenant, format!("job:{}", job.id), &message).map(Some)
}

/// The job that tells of the end of a batch; `None` if that is not wanted.
///
/// # Errors
/// Where what is stored cannot be written as JSON.
pub fn of_batch(callback: &Callback, tenant: &str, end: &BatchEnd) -> serde_json::Result<Option<NewJob>> {
    let event = Event::BatchFinished;
    if !callback.events.contains(&event) {
        return Ok(None);
    }
    let message = Message { event, timestamp: end.finished_at, data: end };
    new_job(callback, end.id, tenant, format!("batch:{}", end.id), &message).map(Some)
}

fn new_job<D: Serialize>(
    callback: &Callback,
    subject: Uuid,
    tenant: &str,
    tag: String,
    message: &Message<D>,
) -> serde_json::Result<NewJob> {
    let body = serde_json::value::to_raw_value(message)?;
    let payload = Payload { url: callback.url.clone(), subject, body };
    Ok(NewJob {
        id: JobId::new(),
        tenant: tenant.to_owned(),
        kind: KIND.to_owned(),
        // Ahead of what has just begun: its receiver has waited for the whole job.
        lane: Lane { queue: "default".to_owned(), priority: Priority::High },
        payload: serde_json::value::to_raw_value(&payload)?,
        run_at: None,
        delay: None,
        admit: false,
        max_attempts: MAX_ATTEMPTS,
        timeout: TIMEOUT,
        retry_policy: RetryPolicy { first_seconds: 5.0, jitter: 0.0, ..RetryPolicy::default() },
        metadata: None,
        tags: vec![tag],
        traceparent: None,
        retry_of: None,
        fired_by: None,
        idempotency: None,
        callback: None,
        unique: None,
        after: None,
    })
}
