//! Batches: many jobs that are accepted, counted, cancelled and repeated together.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Dispatch, IdempotencyKey, Result};
use crate::RawJson;
use crate::callback::Callback;
use crate::job::{BatchId, ErrorInfo, JobId, JobPlan, NewJob};

/// A batch about to be made.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// Made by intake.
    pub id: BatchId,
    /// No jobs are added later: it is finished as soon as those that it has are final.
    pub sealed: bool,
    /// The client's own object, returned as it came.
    pub metadata: Option<RawJson>,
    /// Accepted when the batch is finished.
    pub follow_up: Option<JobPlan>,
    /// Who is told when the batch is finished.
    pub callback: Option<Callback>,
}

/// Which batch jobs are to go into.
#[derive(Clone, Debug)]
pub enum Target {
    /// One that is made with them.
    New(Box<NewBatch>),
    /// One that is open.
    Open(BatchId),
}

/// A wish to put jobs into a batch.
#[derive(Clone, Debug)]
pub struct Filling {
    /// Whose batch.
    pub tenant: String,
    /// Which batch.
    pub target: Target,
    /// The request's `Idempotency-Key`, with the fingerprint of route and body.
    pub idempotency: Option<IdempotencyKey>,
}

impl Filling {
    /// The batch's id.
    #[must_use]
    pub fn batch(&self) -> BatchId {
        match &self.target {
            Target::New(batch) => batch.id,
            Target::Open(id) => *id,
        }
    }
}

/// The jobs of a batch, some at a time, so that they need not all be in memory.
#[async_trait]
pub trait Pages: Send {
    /// The next ones, in the order of their ids; none after the last. What one runs after is there already, or came before it.
    async fn next(&mut self) -> Result<Vec<NewJob>>;
}

/// What was put into a batch.
#[derive(Clone, Debug, Default)]
pub struct Entered {
    /// Those that are `queued`, for the caller to publish.
    pub dispatches: Vec<Dispatch>,
    /// Jobs that were left out, since a live one with their unique key stands for them.
    pub matched: u64,
    /// Jobs that were cancelled for others with their unique key.
    pub replaced: Vec<JobId>,
}

/// A unique key that was to be free and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldKey {
    /// The kind.
    pub kind: String,
    /// The key.
    pub key: String,
    /// The live job that has it; `None` where it is another one of the same request.
    pub by: Option<JobId>,
}

/// What became of a [`Filling`].
#[derive(Clone, Debug)]
pub enum Filled {
    /// All are committed.
    Done(Entered),
    /// The same key and fingerprint came before, for this batch. Nothing was written.
    Repeated(BatchId),
    /// The key came before with another fingerprint. Nothing was written.
    KeyReused,
    /// Another request with the key is being written now. Nothing was written.
    InFlight,
    /// There is no such batch. Nothing was written.
    Missing,
    /// The batch takes no more jobs. Nothing was written.
    Sealed,
    /// A job's unique key is taken, and the job does not do without it. Nothing was written.
    Held(HeldKey),
    /// There are no such jobs as these, which some are to run after. Nothing was written.
    Orphans(Vec<JobId>),
}

/// How many jobs of a batch are in each state, as a client sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Due later, or waiting for their next attempt.
    pub scheduled: u64,
    /// Neither of the others.
    pub queued: u64,
    /// Claimed by a worker: short runs end without ever being counted here.
    pub running: u64,
    /// Counted with their ends.
    pub succeeded: u64,
    /// Counted with their ends.
    pub failed: u64,
    /// Counted with their ends.
    pub cancelled: u64,
}

impl Counts {
    /// Those that are final.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled
    }

    /// Fills in `queued`, which is what is left of `total`. The other counts may be a moment apart.
    #[must_use]
    pub(super) fn of(self, total: u64) -> Self {
        let left = total.saturating_sub(self.ended());
        let running = self.running.min(left);
        let scheduled = self.scheduled.min(left - running);
        Self { scheduled, running, queued: left - running - scheduled, ..self }
    }
}

/// A job of a batch that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// Which.
    pub job: JobId,
    /// How.
    pub error: Option<ErrorInfo>,
}

/// A batch as stored.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// No more jobs are added.
    pub sealed: bool,
    /// How many jobs it has, those that ran again counted anew.
    pub total: u64,
    /// Where they stand. The final ones are exact.
    pub counts: Counts,
    /// Jobs that end in a second, lately.
    pub rate: f64,
    /// Its client's own object.
    pub metadata: Option<RawJson>,
    /// The job that followed its end.
    pub follow_up: Option<JobId>,
    /// Its first failed jobs, at most ten; none where it comes out of a list.
    pub errors: Vec<Failed>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When all were final for the first time.
    pub finished_at: Option<DateTime<Utc>>,
    /// The store's clock when this was read.
    pub read_at: DateTime<Utc>,
}

/// What a listing of batches is narrowed to.
#[derive(Clone, Debug)]
pub struct BatchFilter {
    /// Whose batches.
    pub tenant: String,
    /// Finished or not.
    pub finished: Option<bool>,
    /// Only ids below this one: the last of the page before.
    pub before: Option<BatchId>,
    /// At most this many.
    pub limit: u32,
}

/// What cancelling a page of a batch did.
#[derive(Clone, Debug, Default)]
pub struct CancelledPage {
    /// These had not started, and are `cancelled` now.
    pub ended: Vec<JobId>,
    /// These run; the wish is noted, and their workers are to be told.
    pub requested: Vec<JobId>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<JobId>,
}

/// What a store does with batches.
#[async_trait]
pub trait Batches {
    /// Inserts jobs into a batch, all in one transaction that is durable when this returns. They are linked: whatever ends
    /// one also counts it, in the same transaction. [`super::Error::Rejected`] means that at least one row was refused
    /// and none was written.
    async fn fill_batch(&self, filling: &Filling, jobs: &mut dyn Pages) -> Result<Filled>;

    /// Reads a batch.
    async fn batch(&self, tenant: &str, id: BatchId) -> Result<Option<Batch>>;

    /// Lists batches, newest id first.
    async fn batches(&self, filter: &BatchFilter) -> Result<Vec<Batch>>;

    /// Takes no more jobs into a batch. If all it has are final, that finishes it. Answers whether there is such a batch.
    async fn seal_batch(&self, tenant: &str, id: BatchId) -> Result<bool>;

    /// Cancels jobs of a batch as [`super::Store::cancel`] does, in the order of their ids after this one, at most `limit`.
    async fn cancel_batch(&self, id: BatchId, after: Option<JobId>, limit: u32) -> Result<CancelledPage>;

    /// Adds a new job for each failed one of a batch that has not been repeated yet, at most `limit`. Answers how many.
    async fn retry_batch(&self, tenant: &str, id: BatchId, limit: u32) -> Result<u64>;
}
