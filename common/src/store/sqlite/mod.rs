//! The store in one SQLite file: what `offload dev` runs on.
//!
//! One process uses the file at a time, and holds a lock that says so. It has one writing connection ([`writer`]) and a
//! few reading ones; in WAL mode readers and the writer do not wait for each other. "The store's clock" is the process's
//! own. Who is a worker is in memory ([`fleet`]).

mod audit;
mod batches;
mod callbacks;
mod cells;
mod chains;
mod connection;
mod consequences;
mod error;
mod fill;
mod fleet;
mod intake;
mod ledger;
mod migrate;
mod moves;
#[cfg(test)]
mod plans;
mod prune;
mod reads;
mod rows;
mod runs;
mod schedules;
mod session;
mod statement;
mod trails;
mod transaction;
mod unique;
mod upkeep;
mod writer;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use uuid::Uuid;

pub use self::audit::SqliteAudit;
use self::error::Failure;
use self::fleet::Fleet;
use self::writer::Writer;
use super::{
    Accepted, Cancelled, Candidate, Claim, Claimed, Dispatch, FileRecord, Finish, Finished, JobFilter, LaneDepth,
    Pointer, Pruned, ReapPolicy, Reaped, RegisteredKind, Report, Result, Retention, Session, Steal, Store, Worker,
    WorkerInfo,
};
use crate::callback::Callback;
use crate::job::{Epoch, EventId, FileId, Job, JobId, Lease, LogLine, NewJob, Trail, WorkerId};

/// A store in one SQLite file.
pub struct SqliteStore {
    writer: Arc<Writer>,
    readers: SqlitePool,
    reading: SqliteConnectOptions,
    fleet: Arc<Fleet>,
    /// Held until the store is closed or dropped.
    lock: Mutex<Option<File>>,
}

impl SqliteStore {
    /// Opens the file, creating it and its folder if they are not there. [`Store::migrate`] is left to the caller.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] where the folder cannot be written, or another process uses it.
    pub async fn open(path: &Path) -> Result<Self> {
        let lock = connection::lock(path)?;
        let writer = Writer::open(connection::writing(path)).await?;
        Ok(Self {
            writer: Arc::new(writer),
            readers: connection::readers(path),
            reading: connection::reading(path),
            fleet: Arc::default(),
            lock: Mutex::new(Some(lock)),
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<Vec<String>> {
        Ok(migrate::migrate(&self.writer).await?)
    }

    async fn ready(&self) -> Result<()> {
        Ok(migrate::check(&self.readers).await?)
    }

    async fn accept(&self, jobs: &[NewJob]) -> Result<Vec<Accepted>> {
        Ok(intake::accept(&self.writer, jobs).await?)
    }

    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>> {
        Ok(reads::depths(&self.readers, limit).await?)
    }

    async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>> {
        Ok(reads::one(&self.readers, tenant, id).await?)
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        Ok(reads::list(&self.readers, filter).await?)
    }

    async fn cancel(&self, tenant: &str, id: JobId) -> Result<Option<Cancelled>> {
        Ok(intake::cancel(&self.writer, tenant, id).await?)
    }

    async fn callback(&self, tenant: &str, subject: Uuid) -> Result<Option<Callback>> {
        Ok(callbacks::read(&self.readers, tenant, subject).await?)
    }

    async fn logs(&self, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>> {
        Ok(reads::logs(&self.readers, job, after, limit).await?)
    }

    async fn trails(&self, after: &[(JobId, Option<EventId>)], most: u32) -> Result<Vec<Option<Trail>>> {
        Ok(trails::trails(&self.readers, after, most).await?)
    }

    async fn add_file(&self, file: &FileRecord) -> Result<()> {
        Ok(intake::add_file(&self.writer, file).await?)
    }

    async fn file(&self, tenant: &str, id: FileId) -> Result<Option<FileRecord>> {
        Ok(reads::file_record(&self.readers, tenant, id).await?)
    }

    async fn kinds(&self) -> Result<Vec<RegisteredKind>> {
        let live = self.fleet.kinds();
        let specs = reads::kinds(&self.readers).await?;
        Ok(specs.into_iter().map(|spec| RegisteredKind { live: live.contains(&spec.name), spec }).collect())
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        let running = reads::running(&self.readers).await?;
        let held = |worker: Worker| Worker { running: running.get(&worker.id).copied().unwrap_or(0), ..worker };
        Ok(self.fleet.workers().into_iter().map(held).collect())
    }

    async fn fetch(&self, ids: &[JobId]) -> Result<Vec<Option<Candidate>>> {
        Ok(reads::fetch(&self.readers, ids).await?)
    }

    async fn claim(&self, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>> {
        Ok(runs::claim(&self.writer, &self.fleet, worker, claims).await?)
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>> {
        Ok(runs::finish(&self.writer, finishes).await?)
    }

    async fn decline(&self, pointers: &[Pointer], delay: Duration) -> Result<()> {
        Ok(runs::decline(&self.writer, pointers, delay).await?)
    }

    async fn report(&self, reports: &[Report]) -> Result<()> {
        Ok(runs::report(&self.writer, reports).await?)
    }

    async fn begin(&self, lease: &Lease) -> Result<Box<dyn super::Transaction>> {
        Ok(Box::new(transaction::begin(self.writer.clone(), &self.readers, lease).await?))
    }

    async fn join(&self, info: &WorkerInfo) -> Result<Box<dyn Session>> {
        let reader = self.reading.connect().await.map_err(Failure::from)?;
        let session = session::join(self.fleet.clone(), self.writer.clone(), reader, info).await?;
        Ok(Box::new(session))
    }

    async fn promote(&self, window: u32, limit: u32) -> Result<Vec<Dispatch>> {
        Ok(upkeep::promote(&self.writer, &self.fleet, window, limit).await?)
    }

    async fn steal(&self, steal: &Steal) -> Result<Vec<(Candidate, Lease)>> {
        Ok(upkeep::steal(&self.writer, &self.fleet, steal).await?)
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<Reaped> {
        Ok(upkeep::reap(&self.writer, &self.readers, &self.fleet, policy).await?)
    }

    async fn prune(&self, retention: &Retention) -> Result<Pruned> {
        Ok(prune::prune(&self.writer, retention).await?)
    }

    async fn next_due(&self) -> Result<Option<Duration>> {
        Ok(reads::next_due(&self.readers).await?.map(Duration::from_micros))
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Err(failure) = self.writer.close().await {
            tracing::warn!(error = %super::Error::from(failure), "the database was not closed in good order");
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
