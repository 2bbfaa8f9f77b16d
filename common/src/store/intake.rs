//! What accepting, listing and cancelling take and answer.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::job::{Epoch, JobId, Lane, State};

/// A client's `Idempotency-Key` with what it was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// As the client wrote it, unquoted. Scoped to the tenant.
    pub key: String,
    /// SHA-256 over route and raw body.
    pub fingerprint: [u8; 32],
}

/// What became of a [`NewJob`].
#[derive(Clone, Debug)]
pub enum Accepted {
    /// The row is committed. `dispatch` is there when it is `queued`, for the caller to publish.
    New {
        /// When, by the store's clock.
        created_at: DateTime<Utc>,
        /// When it is due.
        run_at: DateTime<Utc>,
        /// `queued` or `scheduled`.
        state: State,
        /// The pointer to publish.
        dispatch: Option<Dispatch>,
        /// The job that was cancelled for it: it had the unique key, and had not started.
        replaced: Option<JobId>,
    },
    /// The same key and fingerprint came before; this is its job. Nothing was written.
    Repeated(JobId),
    /// The key came before with another fingerprint. Nothing was written.
    KeyReused,
    /// This live job has the unique key, and is the answer. Of the job itself nothing was written.
    Matched(JobId),
    /// This live job has the unique key, and keeps it. Nothing was written.
    Held(JobId),
    /// There are no such jobs as these, which it is to run after. Nothing was written.
    Orphan(Vec<JobId>),
}

/// A pointer to a queued row: what a message consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// The job.
    pub id: JobId,
    /// The epoch it was queued at. A row with another epoch has moved on, and the pointer is void.
    pub epoch: Epoch,
    /// When it was queued, by the store's clock: microseconds since 1970.
    pub queued_at: i64,
}

/// A pointer that is to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Where to.
    pub lane: Lane,
    /// What.
    pub pointer: Pointer,
    /// The W3C `traceparent` to send along.
    pub traceparent: Option<String>,
}

/// What a listing is narrowed to. Every given field must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// Whose jobs.
    pub tenant: String,
    /// In this state, as a client sees it ([`Job::visible_state`]).
    pub state: Option<State>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
    /// Of this batch.
    pub batch_id: Option<Uuid>,
    /// Fired by this schedule.
    pub schedule_id: Option<Uuid>,
    /// Carrying this tag.
    pub tag: Option<String>,
    /// Accepted at or after.
    pub created_after: Option<DateTime<Utc>>,
    /// Accepted before.
    pub created_before: Option<DateTime<Utc>>,
    /// Only ids below this one: the last of the page before.
    pub before: Option<JobId>,
    /// At most this many.
    pub limit: u32,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not started, and is `cancelled` now (or was before).
    Now,
    /// It runs; the wish is noted, and its worker is to be told.
    Requested,
    /// It came to another end before.
    TooLate(State),
}

/// How full a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneDepth {
    /// Which.
    pub lane: Lane,
    /// Rows that are `queued`, counted up to the limit asked for.
    pub queued: u64,
    /// Whether rows are due that promotion has not admitted.
    pub backlog: bool,
}
