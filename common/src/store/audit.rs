//! The port of the auditor: what [`crate::audit`] reads to judge whether a database keeps the promises.
//!
//! Nothing here writes. Every method is one statement over one snapshot, answers a bounded number of rows, and holds
//! nothing open afterwards, so that an audit costs a production database a series of short reads.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{LaneDepth, Result};
use crate::callback::Event;
use crate::job::{BatchId, Epoch, JobId, Lane, Nonce, ScheduleId, State, WorkerId};
use crate::schedule::{Outcome, Submitted};

/// A job's row as it is judged, without what the client wrote. Counts are as stored, wrong ones included.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The job.
    pub id: JobId,
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// Where it stands.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Attempts started and not handed back.
    pub attempt: i64,
    /// At most this many.
    pub max_attempts: i64,
    /// How often a worker was lost under it.
    pub losses: i64,
    /// A client wants it cancelled.
    pub cancel_requested: bool,
    /// The worker that claimed or finished it last.
    pub worker: Option<WorkerId>,
    /// The run that did.
    pub nonce: Option<Nonce>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it is or was due.
    pub run_at: DateTime<Utc>,
    /// When it was last queued.
    pub queued_at: Option<DateTime<Utc>>,
    /// When its last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub finished_at: Option<DateTime<Utc>>,
    /// Whether there is a result.
    pub has_result: bool,
    /// Whether there is an error.
    pub has_error: bool,
    /// How many failed attempts its history lists; `None` if that is no list.
    pub failures: Option<i64>,
    /// The store's clock when this was read.
    pub read_at: DateTime<Utc>,
}

/// A row that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The job.
    pub id: JobId,
    /// The row, or why it cannot be read.
    pub row: Result<Row, String>,
}

/// A worker as the auditor sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: WorkerId,
    /// Its membership is over: it was reaped, or left.
    pub gone: bool,
    /// How long ago its last beat is, by the store's clock.
    pub silent: Duration,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The names of the kinds it offers.
    pub kinds: Vec<String>,
    /// The claimed jobs it holds.
    pub running: u64,
    /// Those of them that are suspects ([`crate::store::Candidate::is_suspect`]).
    pub suspects: u64,
}

/// An idempotency key with what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// Whose it is.
    pub tenant: String,
    /// As the client wrote it.
    pub key: String,
    /// The job, or the batch, that was accepted under it.
    pub job: JobId,
    /// How long ago, by the store's clock.
    pub age: Duration,
    /// Whether that is there.
    pub present: bool,
}

/// A batch with what its rows say, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchCount {
    /// Which.
    pub id: BatchId,
    /// How many jobs it says it has.
    pub total: i64,
    /// How many it says have succeeded, failed and been cancelled.
    pub counted: [i64; 3],
    /// How many of its rows have.
    pub found: [i64; 3],
    /// How many of its rows are not final.
    pub unfinished: i64,
    /// No jobs are added.
    pub sealed: bool,
    /// It has been finished.
    pub finished: bool,
    /// How long ago it was made, by the store's clock.
    pub age: Duration,
}

/// A column of a table of the application's, in which every job that succeeded leaves its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerColumn {
    /// The schema; `None` where the database finds the table by itself.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The column: ids as the database's own type for them, or as text in the API's form.
    pub column: String,
}

/// What a ledger says of one job, and the job's row, both of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The job.
    pub job: JobId,
    /// How many rows of the ledger name it.
    pub rows: u64,
    /// The kind and the state of the job, if it is there.
    pub stands: Option<(String, State)>,
}

/// Some of the values of a ledger, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerPage {
    /// The ids among them, each once.
    pub jobs: Vec<JobId>,
    /// What is no id.
    pub others: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// A record of a fire, with what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireUse {
    /// Whose fire it is.
    pub schedule: ScheduleId,
    /// Its nominal time.
    pub fire_at: DateTime<Utc>,
    /// What became of it.
    pub outcome: Outcome,
    /// What was submitted for it.
    pub submitted: Option<Submitted>,
    /// How long ago, by the store's clock.
    pub age: Duration,
    /// Whether that is there.
    pub present: bool,
}

/// A job that a schedule submitted, with the record of its fire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FiredJob {
    /// Whose fire it is of.
    pub schedule: ScheduleId,
    /// The job.
    pub job: JobId,
    /// The nominal time of the fire.
    pub fire_at: Option<DateTime<Utc>>,
    /// How long ago it was accepted, by the store's clock.
    pub age: Duration,
    /// What the fire submitted, if the job is really of it: the job, or its batch.
    pub expected: Submitted,
    /// What the record names, if there is a record.
    pub recorded: Option<Option<Submitted>>,
}

/// A schedule that should have had its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateSchedule {
    /// Which.
    pub id: ScheduleId,
    /// What it is called.
    pub name: String,
    /// When it was due.
    pub next_at: DateTime<Utc>,
    /// Why its turn failed.
    pub trouble: Option<String>,
}

/// A callback with what it tells of and the job that delivers it, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUse {
    /// The job or the batch.
    pub subject: Uuid,
    /// The event that its end is, once it has come; `None` before, and where it is gone.
    pub end: Option<Event>,
    /// Whether it is gone.
    pub gone: bool,
    /// The events that are asked for.
    pub events: Vec<Event>,
    /// How long ago it was fired, by the store's clock, if it was.
    pub fired: Option<Duration>,
    /// The job that it was fired with.
    pub job: Option<JobId>,
    /// The kind of that job, if it is there.
    pub kind: Option<String>,
}

/// A unique key with the jobs that have it, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniqueUse {
    /// Whose it is.
    pub tenant: String,
    /// Of which kind.
    pub kind: String,
    /// As the client wrote it.
    pub key: String,
    /// The job that keeps others from taking it.
    pub holder: Option<JobId>,
    /// The live jobs that have it.
    pub live: Vec<JobId>,
}

/// A job that waits for its parents, with what their rows say, of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingJob {
    /// Which.
    pub id: JobId,
    /// How many parents it says it has.
    pub parents: i64,
    /// How many are named.
    pub named: i64,
    /// How many of those are there and not final.
    pub unfinished: i64,
    /// How many of those do not say that they are followed.
    pub unfollowed: i64,
    /// How long ago the last of them ended, or the job was accepted, if that was later; by the store's clock.
    pub since: Duration,
}

/// A database that can be audited.
#[async_trait]
pub trait Audit: Send + Sync {
    /// The store's clock.
    async fn now(&self) -> Result<DateTime<Utc>>;

    /// What would let a job have two rows; `None` where the schema rules it out.
    async fn ambiguity(&self) -> Result<Option<String>>;

    /// The greatest id that there is.
    async fn newest(&self) -> Result<Option<JobId>>;

    /// Rows in the order of their ids, after one and through another, at most `limit`.
    async fn page(&self, after: Option<JobId>, through: JobId, limit: u32) -> Result<Vec<Seen>>;

    /// The rows of these jobs, in any order; those that are gone are left out.
    async fn look(&self, ids: &[JobId]) -> Result<Vec<Seen>>;

    /// Running rows that can be read, at most `limit`.
    async fn running(&self, limit: u32) -> Result<Vec<Row>>;

    /// Rows that have been `queued` for longer than this, the oldest of each lane, at most `limit` of each.
    async fn queued(&self, longer_than: Duration, limit: u32) -> Result<Vec<Row>>;

    /// Rows that are `scheduled` and have been due for longer than this, the oldest of each lane and kind, at most
    /// `limit` of each.
    async fn due(&self, longer_than: Duration, limit: u32) -> Result<Vec<Row>>;

    /// How full the lanes are, as [`super::Store::depths`].
    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>>;

    /// The workers that the store knows, gone ones included; `None` where only another process knows them.
    async fn members(&self) -> Result<Option<Vec<Member>>>;

    /// Idempotency keys in order, after one, at most `limit`.
    async fn keys(&self, after: Option<&KeyUse>, limit: u32) -> Result<Vec<KeyUse>>;

    /// Records of fires, in the order of schedules and times, after one, at most `limit`.
    async fn fires(&self, after: Option<(ScheduleId, DateTime<Utc>)>, limit: u32) -> Result<Vec<FireUse>>;

    /// Jobs that schedules submitted, in the order of schedules and ids, after one, at most `limit`.
    async fn fired(&self, after: Option<(ScheduleId, JobId)>, limit: u32) -> Result<Vec<FiredJob>>;

    /// Schedules that have been due for longer than this, the longest first, at most `limit`.
    async fn late_schedules(&self, longer_than: Duration, limit: u32) -> Result<Vec<LateSchedule>>;

    /// Batches in the order of their ids, after one, at most `limit`.
    async fn batches(&self, after: Option<BatchId>, limit: u32) -> Result<Vec<BatchCount>>;

    /// Callbacks in the order of what they tell of, after one, at most `limit`.
    async fn callbacks(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<CallbackUse>>;

    /// Unique keys that are taken, in the order of tenant, kind and key, after one, at most `limit`.
    async fn unique_keys(&self, after: Option<&UniqueUse>, limit: u32) -> Result<Vec<UniqueUse>>;

    /// Jobs that wait for their parents, in the order of their ids, after one, at most `limit`.
    async fn waiting(&self, after: Option<JobId>, limit: u32) -> Result<Vec<WaitingJob>>;

    /// How many rows of a ledger hold nothing that could be an id. [`super::Error::Rejected`] where there is no such
    /// column, or its type cannot hold one.
    async fn blank_in_ledger(&self, ledger: &LedgerColumn) -> Result<u64>;

    /// Values of a ledger in order, from where the page before said, at most `limit`.
    async fn ledger_page(&self, ledger: &LedgerColumn, from: Option<&str>, limit: u32) -> Result<LedgerPage>;

    /// What a ledger says of these jobs; one entry per job, in any order.
    async fn in_ledger(&self, ledger: &LedgerColumn, jobs: &[JobId]) -> Result<Vec<LedgerEntry>>;

    /// Closes the connections in good order.
    async fn close(&self);
}
