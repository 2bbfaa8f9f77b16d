//! What a job consists of, as submitted and as read back.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{After, Epoch, JobId, Lane, Parents, ScheduleId, State, UniqueKey, WorkerId};
use crate::RawJson;
use crate::callback::Callback;
use crate::retry::RetryPolicy;

/// How far a running job has come, as its handler reports it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// 0.0 to 1.0.
    pub fraction: f64,
    /// What it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The last attempt's failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorInfo {
    /// A stable word for programs, such as `timeout`, `panic`, `worker_lost` or one of the kind's own.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// When it was recorded.
    pub at: DateTime<Utc>,
}

/// One failed attempt in a job's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// From 1.
    pub attempt: u32,
    /// As in [`ErrorInfo::code`].
    pub code: String,
    /// As in [`ErrorInfo::message`].
    pub message: String,
    /// The worker that ran it, if one did.
    pub worker: Option<WorkerId>,
    /// When it started, if it did.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was given up.
    pub ended_at: DateTime<Utc>,
    /// The epoch that its end began.
    #[serde(default)]
    pub epoch: Epoch,
}

/// A line that a handler wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Sorts within the job, and serves as the cursor of the next page: `<epoch>-<n>`.
    pub id: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The text.
    pub message: String,
}

/// The schedule that a job comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiredBy {
    /// Which.
    pub schedule: ScheduleId,
    /// The nominal time of the fire.
    pub at: DateTime<Utc>,
}

/// A job about to be accepted: validated, with every default resolved.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Made by intake, so that an id names the job before the row is there.
    pub id: JobId,
    /// Whose job it is.
    pub tenant: String,
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// The validated payload.
    pub payload: RawJson,
    /// Due at this time; `None` is now. A time in the past is now.
    pub run_at: Option<DateTime<Utc>>,
    /// Due after this time by the store's clock; at most one of `run_at` and `delay` is given.
    pub delay: Option<Duration>,
    /// Whether a job that is due now becomes `queued` at once, for the caller to publish. Else it is stored as
    /// `scheduled` and due, and promotion brings it in: the lane has a backlog or its window is full.
    pub admit: bool,
    /// From 1 to 100. One means: never start twice.
    pub max_attempts: u32,
    /// The time that one attempt may take.
    pub timeout: Duration,
    /// How the delay between attempts grows.
    pub retry_policy: RetryPolicy,
    /// The client's own object, returned as it came.
    pub metadata: Option<RawJson>,
    /// For filters.
    pub tags: Vec<String>,
    /// The W3C `traceparent` of the request.
    pub traceparent: Option<String>,
    /// The job that this one runs again.
    pub retry_of: Option<JobId>,
    /// The schedule that submits it.
    pub fired_by: Option<FiredBy>,
    /// The request's `Idempotency-Key`, with the fingerprint of route and body.
    pub idempotency: Option<crate::store::IdempotencyKey>,
    /// Who is told of its end. It is linked then.
    pub callback: Option<Callback>,
    /// The key that no other live job of its kind has. It is linked then.
    pub unique: Option<UniqueKey>,
    /// What it runs after. Promotion brings it in, once that has ended: it is not admitted.
    pub after: Option<After>,
}

impl NewJob {
    /// Whether its row is all there is to write of it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.is_linked() && self.after.is_none()
    }

    /// Whether its end has consequences from the beginning.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.callback.is_some() || self.unique.is_some()
    }
}

/// A job as stored.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// Where it stands, as stored. See [`Job::visible_state`].
    pub state: State,
    /// Counts its hand-overs.
    pub epoch: Epoch,
    /// Attempts started and not handed back.
    pub attempt: u32,
    /// At most this many.
    pub max_attempts: u32,
    /// How often a worker was lost under it.
    pub losses: u32,
    /// A client wants it cancelled, and it runs.
    pub cancel_requested: bool,
    /// The last progress reported.
    pub progress: Option<Progress>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it is or was due; while it waits for its parents, the time before which it is not to run.
    pub run_at: DateTime<Utc>,
    /// Whether `run_at` has come, by the store's clock at the time of reading.
    pub due: bool,
    /// When it was last queued.
    pub queued_at: Option<DateTime<Utc>>,
    /// When its last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub finished_at: Option<DateTime<Utc>>,
    /// The time that one attempt may take.
    pub timeout: Duration,
    /// What it was submitted with.
    pub payload: RawJson,
    /// What it came to, once `succeeded`.
    pub result: Option<RawJson>,
    /// The last attempt's failure.
    pub error: Option<ErrorInfo>,
    /// Every failed attempt, oldest first.
    pub history: Vec<Attempt>,
    /// The client's own object.
    pub metadata: Option<RawJson>,
    /// For filters.
    pub tags: Vec<String>,
    /// The batch that it belongs to.
    pub batch_id: Option<Uuid>,
    /// The schedule that fired it.
    pub schedule_id: Option<Uuid>,
    /// The nominal time of that fire.
    pub fire_at: Option<DateTime<Utc>>,
    /// The job that it runs again.
    pub retry_of: Option<JobId>,
    /// The worker that runs or last ran it.
    pub worker: Option<WorkerId>,
    /// The key that no other live job of its kind has.
    pub unique_key: Option<String>,
    /// The jobs that it runs after.
    pub parents: Option<Parents>,
}

impl Job {
    /// The state that a client sees: a due first run is `queued`, whether or not promotion has admitted it yet.
    #[must_use]
    pub fn visible_state(&self) -> State {
        match self.state {
            State::Scheduled if self.due && self.attempt == 0 => State::Queued,
            state => state,
        }
    }
}
