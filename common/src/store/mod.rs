//! The store port: what Offload needs of a database.
//!
//! The row is the truth. Every method that moves jobs takes many at a time and applies transitions that
//! [`crate::job::transition::decide`] made, guarded by the epoch that the caller saw. Methods may be called
//! concurrently from any number of processes, and dropped at any await without harm to later calls.
//!
//! [`crate::testing`] holds the suite that every implementation passes.

pub mod postgres;
mod row;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::RawJson;
use crate::job::transition::{self, Snapshot, Transition};
use crate::job::{Epoch, FileId, Job, JobId, Lane, Lease, LogLine, NewJob, Nonce, Progress, State, WorkerId};
use crate::kind::KindSpec;
use crate::retry::RetryPolicy;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or did not answer in time: whether the write happened is unknown. Try again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The schema is missing or older than this program.
    #[error("the database schema is not up to date ({0}); run `offload migrate`")]
    NotMigrated(String),
    /// It refuses this data, and would again: nothing was written.
    #[error("the database refused the data: {0}")]
    Rejected(String),
    /// What is stored does not make sense to this program.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

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
    },
    /// The same key and fingerprint came before; this is its job. Nothing was written.
    Repeated(JobId),
    /// The key came before with another fingerprint. Nothing was written.
    KeyReused,
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
#[derive(Clone, Debug, Default)]
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

/// The row as a worker reads it right before the start.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// Where it stands.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Attempts started and not handed back.
    pub attempt: u32,
    /// At most this many.
    pub max_attempts: u32,
    /// How often a worker was lost under it.
    pub losses: u32,
    /// A client wants it cancelled.
    pub cancel_requested: bool,
    /// The time that one attempt may take.
    pub timeout: Duration,
    /// How the delay between attempts grows.
    pub retry_policy: RetryPolicy,
    /// What it was submitted with.
    pub payload: RawJson,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// The W3C `traceparent` of the request.
    pub traceparent: Option<String>,
}

impl Candidate {
    /// Whether it may be what kills workers: it lost [`transition::SUSPECT_LOSSES`] of them.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.losses >= transition::SUSPECT_LOSSES
    }

    /// What [`crate::job::transition::decide`] looks at.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            losses: self.losses,
            cancel_requested: self.cancel_requested,
        }
    }
}

/// A wish to claim a queued row: `running`, `attempt + 1`, `epoch + 1`.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The epoch it was seen `queued` at.
    pub epoch: Epoch,
    /// The run's nonce.
    pub nonce: Nonce,
    /// How long the handler has been running already (a lazy claim): `started_at` lies this far back.
    pub running_for: Duration,
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The right to write it.
    pub lease: Lease,
    /// What was decided.
    pub transition: Transition,
    /// What it came to, for `succeeded`.
    pub result: Option<RawJson>,
    /// How long the handler ran; a lazy run's `started_at` lies this far back.
    pub ran_for: Duration,
}

/// What became of a [`Finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The row says so now (also when an earlier try had done it and only its reply was lost). A row that became
    /// `queued` comes with its pointer, to publish.
    Applied(Option<Pointer>),
    /// A client wants the job cancelled, and the transition was not a final one. The lease still holds: decide again.
    CancelRequested,
    /// The row has moved on: the lease was lost. Nothing was written.
    Lost,
}

/// Something that a handler said while running. Written only while its lease holds.
#[derive(Clone, Debug)]
pub struct Report {
    /// The claimed lease.
    pub lease: Lease,
    /// The newest progress, if it changed.
    pub progress: Option<Progress>,
    /// New log lines, in order. `n` counts from 0 within a run.
    pub lines: Vec<ReportedLine>,
}

/// A log line on its way to the store. Its public id is `<epoch>-<n>`, of the lease's epoch.
#[derive(Clone, Debug)]
pub struct ReportedLine {
    /// Its number within the run.
    pub n: u32,
    /// When the handler wrote it.
    pub at: DateTime<Utc>,
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// The text.
    pub message: String,
}

/// A database transaction that a handler writes in. It commits together with the job's success, or not at all.
/// Dropped, it is rolled back.
#[async_trait]
pub trait Transaction: Send {
    /// Runs one statement of the application's own, in the dialect of the store; `$1`, `$2`, … stand for `arguments`.
    /// Answers how many rows it changed.
    async fn execute(&mut self, sql: &str, arguments: &[Value]) -> Result<u64>;

    /// Creates a table with these columns unless it is there; the same table created by others at the same moment is
    /// no error.
    async fn create_table(&mut self, table: &TableName, columns: &[Column]) -> Result<()>;

    /// The columns of a table, in order; `None` if there is no such table.
    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<Column>>>;

    /// Appends rows; each has a cell per column, in order. A cell that its column's type refuses is
    /// [`Error::Rejected`], after which the transaction can only be dropped.
    async fn insert(&mut self, table: &TableName, columns: &[Column], rows: Vec<Vec<Option<String>>>) -> Result<u64>;

    /// Runs the fenced finish as the last statement and commits. Anything but [`Finished::Applied`] rolls back.
    /// [`Error::Rejected`] is possible here, too: a constraint of a table may be looked at only now.
    async fn finish(self: Box<Self>, finish: &Finish) -> Result<Finished>;
}

/// A table of the application's, in a schema that the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The schema; stores without schemas leave it out.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// A column of an imported table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// What a column of an imported table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Any text.
    #[default]
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// A 64-bit floating point number.
    Float,
    /// An exact decimal number.
    Numeric,
    /// `true` or `false`.
    Boolean,
    /// A calendar date, `2026-11-23`.
    Date,
    /// A point in time, RFC 3339.
    Timestamp,
    /// A JSON document.
    Json,
}

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub tenant: String,
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 over its content, in hex.
    pub sha256: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// A kind that workers registered, ever.
#[derive(Clone, Debug)]
pub struct RegisteredKind {
    /// The latest registration.
    pub spec: KindSpec,
    /// Whether a live worker offers it.
    pub live: bool,
}

/// What a worker process says of itself.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// The host's name.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The kinds it offers.
    pub kinds: Vec<KindSpec>,
}

/// A worker as others see it.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// What it said of itself; `kinds` are names here.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The names of the kinds it offers.
    pub kinds: Vec<String>,
    /// When it joined.
    pub started_at: DateTime<Utc>,
    /// Its last beat.
    pub beat_at: DateTime<Utc>,
    /// The claimed jobs it holds.
    pub running: u64,
}

/// What a beat answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Still a member. These of its running jobs are to be cancelled.
    Alive {
        /// Jobs of this worker with `cancel_requested`.
        cancel: Vec<JobId>,
    },
    /// It was taken for dead: stop the handlers and join again under a new id.
    Fenced,
}

/// A worker's membership. It owns its database connection, made in the runtime that called [`Store::join`], so that a
/// beat depends on nothing that handlers can hold up.
#[async_trait]
pub trait Session: Send {
    /// The id that this membership goes by.
    fn worker(&self) -> WorkerId;

    /// Says: still here.
    async fn beat(&mut self) -> Result<Beat>;

    /// Claims on the session's own connection. Same answer as [`Store::claim`].
    async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Option<Lease>>>;

    /// The leases of all rows that say `running` by this membership. Where a reply was lost for good (of a steal, say),
    /// one may be among them that nothing here runs: its worker finds it by this and hands it back.
    async fn held(&mut self) -> Result<Vec<Lease>>;

    /// Ends the membership in good order. Jobs that it still holds are reaped at once.
    async fn leave(self: Box<Self>) -> Result<()>;
}

/// What stealing looks for.
#[derive(Clone, Debug)]
pub struct Steal {
    /// Who takes them.
    pub worker: WorkerId,
    /// Only from these queues.
    pub queues: Vec<String>,
    /// Only these kinds.
    pub kinds: Vec<String>,
    /// Only rows that have been queued for longer than this.
    pub older_than: Duration,
    /// Whether a suspect may be among them ([`Candidate::is_suspect`]); at most one is. A process runs one at a time.
    pub suspects: bool,
    /// At most this many.
    pub limit: u32,
}

/// When a worker counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct ReapPolicy {
    /// No beat for this long, or any other proof that it is gone. `None` while the caller cannot judge others (its own
    /// beats failed a moment ago, so theirs may have too): then no worker is newly marked, and only the rows of workers
    /// that are marked, left or unknown are taken.
    pub lease: Option<Duration>,
}

/// What reaping did.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Workers newly found lost.
    pub workers: Vec<WorkerId>,
    /// Jobs that were queued again, to publish.
    pub requeued: Vec<Dispatch>,
    /// Jobs that came to an end.
    pub ended: Vec<JobId>,
}

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Finished jobs, with their logs.
    pub jobs: Duration,
    /// Files.
    pub files: Duration,
    /// Idempotency keys.
    pub idempotency_keys: Duration,
}

/// What pruning did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Finished jobs removed (an estimate where whole partitions went).
    pub jobs: u64,
    /// Files whose rows are gone, for the caller to delete.
    pub files: Vec<FileId>,
    /// Idempotency keys removed.
    pub idempotency_keys: u64,
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

/// A database that remembers jobs.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Brings the schema up to date; answers the names of the migrations applied.
    async fn migrate(&self) -> Result<Vec<String>>;

    /// Whether it can be reached and its schema is the one this program needs.
    async fn ready(&self) -> Result<()>;

    // --- intake

    /// Inserts jobs, all in one transaction that is durable when this returns; answers one entry per job, in order.
    /// A key that occurs twice in the batch counts as having come before. [`Error::Rejected`] means that at least one
    /// row was refused and none was written: split the batch.
    async fn accept(&self, jobs: &[NewJob]) -> Result<Vec<Accepted>>;

    /// How full the lanes are, counting each up to `limit`. Lanes with nothing in them may be left out.
    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>>;

    /// Reads a job.
    async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>>;

    /// Lists jobs, newest id first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>>;

    /// Which of these jobs are final (or gone): for callers that wait for many.
    async fn finished(&self, ids: &[JobId]) -> Result<Vec<JobId>>;

    /// Cancels a job that has not started, or notes the wish on one that runs. `None` if there is no such job.
    async fn cancel(&self, tenant: &str, id: JobId) -> Result<Option<Cancelled>>;

    /// A job's log lines in order, after the line with this (epoch, n).
    async fn logs(&self, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>>;

    /// Records a stored file.
    async fn add_file(&self, file: &FileRecord) -> Result<()>;

    /// Reads a file's record.
    async fn file(&self, tenant: &str, id: FileId) -> Result<Option<FileRecord>>;

    /// Every kind that a worker ever registered.
    async fn kinds(&self) -> Result<Vec<RegisteredKind>>;

    /// Live workers.
    async fn workers(&self) -> Result<Vec<Worker>>;

    // --- runs

    /// Reads rows right before their start; one entry per id, in order; `None` where there is no row.
    async fn fetch(&self, ids: &[JobId]) -> Result<Vec<Option<Candidate>>>;

    /// Claims queued rows for a worker; one entry per claim, in order; `None` where the row is not `queued` at that
    /// epoch any more. A row that already carries the claim's nonce was claimed by an earlier try, and is granted.
    async fn claim(&self, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Option<Lease>>>;

    /// Ends runs; one entry per finish, in order. Applies a row only if its epoch is the lease's, its state the one the
    /// lease says, and, for a transition that is not final, no cancel is wished. [`Error::Rejected`] means that at
    /// least one was refused and none written.
    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>>;

    /// Moves queued rows that this worker cannot run back to `scheduled`, without spending an attempt. Rows that moved
    /// on meanwhile are left alone.
    async fn decline(&self, pointers: &[Pointer], delay: Duration) -> Result<()>;

    /// Writes what handlers said. Reports whose lease is lost write nothing; one that comes again, because its reply was
    /// lost, writes its lines once.
    async fn report(&self, reports: &[Report]) -> Result<()>;

    /// Opens a transaction for a handler. The lease must be claimed.
    async fn begin(&self, lease: &Lease) -> Result<Box<dyn Transaction>>;

    // --- fleet and upkeep

    /// Makes this process a member; its kinds are registered with it.
    async fn join(&self, info: &WorkerInfo) -> Result<Box<dyn Session>>;

    /// Queues due jobs while their lanes hold fewer than `window` queued rows, oldest due first, at most `limit`, only
    /// kinds that a live worker offers. Answers them for publishing.
    async fn promote(&self, window: u32, limit: u32) -> Result<Vec<Dispatch>>;

    /// Claims queued rows whose messages must have been lost, oldest queued first, those that lost a worker before all.
    /// Answers each as it reads after its claim.
    async fn steal(&self, steal: &Steal) -> Result<Vec<(Candidate, Lease)>>;

    /// Marks workers without a beat as reaped, and takes every running row whose worker is reaped or unknown through
    /// [`crate::job::transition::Event::Lose`].
    async fn reap(&self, policy: &ReapPolicy) -> Result<Reaped>;

    /// Removes what is past its retention, and prepares room for the days to come.
    async fn prune(&self, retention: &Retention) -> Result<Pruned>;

    /// When the next `scheduled` row is due, from now; `None` if none is. Lets promotion sleep exactly long enough.
    async fn next_due(&self) -> Result<Option<Duration>>;

    /// Closes the connections in good order.
    async fn close(&self);
}
