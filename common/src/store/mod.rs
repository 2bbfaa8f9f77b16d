//! The store port: what Offload needs of a database.
//!
//! The row is the truth. Every method that moves jobs takes many at a time and applies transitions that
//! [`crate::job::transition::decide`] made, guarded by the epoch that the caller saw. Methods may be called
//! concurrently from any number of processes, and dropped at any await without harm to later calls.
//!
//! [`crate::testing`] holds the suite that every implementation passes.

pub mod audit;
mod batches;
mod chains;
mod fence;
mod fleet;
mod intake;
pub mod postgres;
mod row;
mod runs;
mod schedules;
pub mod sqlite;
mod tables;
mod upkeep;

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use uuid::Uuid;

pub use batches::{
    Batch, BatchFilter, Batches, CancelledPage, Counts, Entered, Failed, Filled, Filling, HeldKey, NewBatch, Pages,
    Target,
};
pub use chains::{Chains, ParentEnd, Released};
pub use fence::{Fate, Fence};
pub use fleet::{Beat, RegisteredKind, Steal, Worker, WorkerInfo};
pub use intake::{Accepted, Cancelled, Dispatch, IdempotencyKey, JobFilter, LaneDepth, Pointer};
pub use runs::{Candidate, Claim, Claimed, Finish, Finished, Report, Saying, Utterance};
pub use schedules::{Changed, FireRecord, Fired, NewSchedule, NextFire, Ran, Removed, ScheduleFilter, Schedules};
pub use tables::{Column, ColumnType, TableName};
pub use upkeep::{FileRecord, Judge, Pruned, ReapPolicy, Reaped, Retention};

use crate::callback::Callback;
use crate::job::{Epoch, EventId, FileId, Job, JobId, Lease, LogLine, NewJob, Trail, WorkerId};

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

/// A worker's membership. It owns its database connection, made in the runtime that called [`Store::join`], so that a
/// beat depends on nothing that handlers can hold up.
#[async_trait]
pub trait Session: Send {
    /// The id that this membership goes by.
    fn worker(&self) -> WorkerId;

    /// Makes sure that the store still sees this process, without a write; cheap enough for several times a second.
    /// `false` where it did not and does again: it is time for a beat, since others may have taken this worker for dead.
    async fn probe(&mut self) -> Result<bool>;

    /// Says: still here.
    async fn beat(&mut self) -> Result<Beat>;

    /// Claims on the session's own connection. Same answer as [`Store::claim`].
    async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>>;

    /// The leases of all rows that say `running` by this membership. Where a reply was lost for good (of a steal, say),
    /// one may be among them that nothing here runs: its worker finds it by this and hands it back.
    async fn held(&mut self) -> Result<Vec<Lease>>;

    /// Whether work that this worker could start has been queued for longer than this. What may be what kills workers
    /// ([`Candidate::is_suspect`]) does not count: it waits for its like to end.
    async fn overdue(&mut self, older_than: Duration) -> Result<bool>;

    /// Ends the membership in good order. Jobs that it still holds are reaped at once.
    async fn leave(self: Box<Self>) -> Result<()>;
}

/// A database that remembers jobs. What it does with batches, chains and schedules has traits of its own.
#[async_trait]
pub trait Store: Batches + Chains + Schedules + 'static {
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

    /// Cancels a job that has not started, or notes the wish on one that runs. `None` if there is no such job.
    async fn cancel(&self, tenant: &str, id: JobId) -> Result<Option<Cancelled>>;

    /// Who is told of the end of a job or a batch.
    async fn callback(&self, tenant: &str, subject: Uuid) -> Result<Option<Callback>>;

    /// A job's log lines in order, after the line with this (epoch, n).
    async fn logs(&self, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>>;

    /// What is kept of these jobs' past, each as one look at it finds it, with at most `most` of what its handler said after
    /// the given event. One entry per job, in order; `None` where there is none. A job is named once.
    async fn trails(&self, after: &[(JobId, Option<EventId>)], most: u32) -> Result<Vec<Option<Trail>>>;

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

    /// Claims queued rows for a worker; one entry per claim, in order. A row that already carries the claim's nonce was
    /// claimed by an earlier try, and is granted. Only a member is granted anything; one that is reaped at the same moment
    /// may be, and [`Store::reap`] takes that back, as it does what an earlier try had claimed.
    async fn claim(&self, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>>;

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
    /// Answers each as it reads after its claim. Who is no member gets nothing, as with [`Store::claim`].
    async fn steal(&self, steal: &Steal) -> Result<Vec<(Candidate, Lease)>>;

    /// Marks workers that are gone as reaped, and takes every running row whose worker is reaped, has left or is unknown
    /// through [`crate::job::transition::Event::Lose`]. A row that somebody holds locked is left to a later call.
    async fn reap(&self, policy: &ReapPolicy) -> Result<Reaped>;

    /// Removes what is past its retention, and prepares room for the days to come.
    async fn prune(&self, retention: &Retention) -> Result<Pruned>;

    /// When the next `scheduled` row is due, from now; `None` if none is. Lets promotion sleep exactly long enough.
    async fn next_due(&self) -> Result<Option<Duration>>;

    /// Closes the connections in good order.
    async fn close(&self);
}
