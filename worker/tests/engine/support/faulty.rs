//! A store that does what a test says before or after the real one does its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use offload_common::callback::Callback;
use offload_common::job::{BatchId, Epoch, EventId, FileId, Job, JobId, Lease, LogLine, NewJob, Trail, WorkerId};
use offload_common::store::{
    Accepted, Batch, BatchFilter, Batches, Beat, Cancelled, CancelledPage, Candidate, Chains, Claim, Claimed, Column,
    Dispatch, Error, FileRecord, Filled, Filling, Finish, Finished, JobFilter, LaneDepth, Pages, ParentEnd, Pointer,
    Pruned, ReapPolicy, Reaped, RegisteredKind, Released, Report, Result, Retention, Session, Steal, Store, TableName,
    Transaction, Worker, WorkerInfo,
};
use serde_json::Value;
use tokio::sync::watch;

/// Counts that a test sets, and that go down as they strike; and counts that go up.
#[derive(Default)]
pub(crate) struct Faults {
    /// So many finishes are not answered, before they are done.
    pub(crate) finishes_away: AtomicUsize,
    /// So many finishes are done, and their reply is lost.
    pub(crate) finishes_unheard: AtomicUsize,
    /// So many claims are done, and their reply comes only when the worker has looked several times at what it holds.
    pub(crate) claims_slow: AtomicUsize,
    /// So many claims of lazy runs are not answered, before they are done.
    pub(crate) lazy_claims_away: AtomicUsize,
    /// No claim that names this job is answered.
    pub(crate) locked: watch::Sender<Option<JobId>>,
    /// While this is set, claims of lazy runs hang.
    pub(crate) lazy_claims_hang: watch::Sender<bool>,
    /// Such claims since the last beat, and the most between two beats.
    pub(crate) hung: watch::Sender<Hung>,
    /// While this is set, claims are done, and their replies are held back.
    pub(crate) claims_held: watch::Sender<bool>,
    /// While this is set, finishes wait before they are done.
    pub(crate) finishes_held: watch::Sender<bool>,
    /// So many steals are done, and their reply is lost.
    pub(crate) steals_unheard: AtomicUsize,
    /// So many beats say that the worker was taken for dead.
    pub(crate) fencings: AtomicUsize,
    /// So many probes say that the connection was lost, and is made again.
    pub(crate) connections_lost: AtomicUsize,
    /// So many beats are not answered.
    pub(crate) beats_away: AtomicUsize,
    /// While this is set, nothing starts: rows are not read, and nothing is stolen.
    pub(crate) starts_held: watch::Sender<bool>,
    /// What is done to finishes that carry the result `"poison"`.
    pub(crate) poison: Option<Poison>,
    /// So many calls of these methods panic, before they are done.
    pub(crate) panics: Panics,
    /// Looks at what the worker holds.
    pub(crate) looks: watch::Sender<usize>,
    /// Claims made.
    pub(crate) claims: AtomicUsize,
    /// Finishes written.
    pub(crate) finishes: AtomicUsize,
    /// The most bytes of results that were written at once.
    pub(crate) heaviest: AtomicUsize,
}

/// Claims that hang.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hung {
    pub(crate) all: usize,
    pub(crate) since_the_last_beat: usize,
    pub(crate) between_two_beats: usize,
}

/// What a result does to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poison {
    /// It is refused.
    Refused,
    /// It is never answered.
    Unanswered,
    /// It panics.
    Panics,
}

/// Counts, by method.
#[derive(Default)]
pub(crate) struct Panics {
    pub(crate) beat: AtomicUsize,
    pub(crate) commit: AtomicUsize,
    pub(crate) fetch: AtomicUsize,
    pub(crate) finish: AtomicUsize,
    pub(crate) promote: AtomicUsize,
    pub(crate) report: AtomicUsize,
}

impl Faults {
    fn is_locked(&self, claims: &[Claim]) -> bool {
        claims.iter().any(|claim| Some(claim.job) == *self.locked.borrow())
    }

    fn strikes(count: &AtomicUsize) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }
}

/// The real store, with faults.
pub(crate) struct Faulty {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) faults: Arc<Faults>,
}

struct FaultyTransaction {
    transaction: Box<dyn Transaction>,
    faults: Arc<Faults>,
}

struct FaultySession {
    session: Box<dyn Session>,
    faults: Arc<Faults>,
}

fn maybe_panic(count: &AtomicUsize) {
    assert!(!Faults::strikes(count), "on purpose");
}

fn away() -> Error {
    Error::Unavailable("on purpose".into())
}

#[async_trait]
impl Session for FaultySession {
    fn worker(&self) -> WorkerId {
        self.session.worker()
    }

    async fn probe(&mut self) -> Result<bool> {
        Ok(self.session.probe().await? && !Faults::strikes(&self.faults.connections_lost))
    }

    async fn beat(&mut self) -> Result<Beat> {
        maybe_panic(&self.faults.panics.beat);
        self.faults.hung.send_modify(|hung| hung.since_the_last_beat = 0);
        if Faults::strikes(&self.faults.fencings) {
            return Ok(Beat::Fenced);
        }
        if Faults::strikes(&self.faults.beats_away) {
            return Err(away());
        }
        self.session.beat().await
    }

    async fn claim(&mut self, claims: &[Claim]) -> Result<Vec<Claimed>> {
        self.faults.claims.fetch_add(claims.len(), Ordering::SeqCst);
        if self.faults.is_locked(claims) || Faults::strikes(&self.faults.lazy_claims_away) {
            return Err(away());
        }
        if *self.faults.lazy_claims_hang.borrow() {
            self.faults.hung.send_modify(|hung| {
                hung.all += 1;
                hung.since_the_last_beat += 1;
                hung.between_two_beats = hung.between_two_beats.max(hung.since_the_last_beat);
            });
            std::future::pending().await
        }
        self.session.claim(claims).await
    }

    async fn held(&mut self) -> Result<Vec<Lease>> {
        let held = self.session.held().await;
        self.faults.looks.send_modify(|looks| *looks += 1);
        held
    }

    async fn overdue(&mut self, older_than: Duration) -> Result<bool> {
        self.session.overdue(older_than).await
    }

    async fn leave(self: Box<Self>) -> Result<()> {
        self.session.leave().await
    }
}

#[async_trait]
impl Transaction for FaultyTransaction {
    async fn execute(&mut self, sql: &str, arguments: &[Value]) -> Result<u64> {
        self.transaction.execute(sql, arguments).await
    }

    async fn create_table(&mut self, table: &TableName, columns: &[Column]) -> Result<()> {
        self.transaction.create_table(table, columns).await
    }

    async fn columns(&mut self, table: &TableName) -> Result<Option<Vec<Column>>> {
        self.transaction.columns(table).await
    }

    async fn insert(&mut self, table: &TableName, columns: &[Column], rows: Vec<Vec<Option<String>>>) -> Result<u64> {
        self.transaction.insert(table, columns, rows).await
    }

    async fn finish(self: Box<Self>, finish: &Finish) -> Result<Finished> {
        maybe_panic(&self.faults.panics.commit);
        self.transaction.finish(finish).await
    }
}

#[async_trait]
impl Store for Faulty {
    async fn claim(&self, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>> {
        self.faults.claims.fetch_add(claims.len(), Ordering::SeqCst);
        if self.faults.is_locked(claims) {
            return Err(away());
        }
        let claimed = self.store.claim(worker, claims).await;
        if Faults::strikes(&self.faults.claims_slow) {
            let mut looks = self.faults.looks.subscribe();
            let enough = *looks.borrow() + 5;
            looks.wait_for(|looks| *looks >= enough).await.expect("the sender is here");
        }
        self.faults.claims_held.subscribe().wait_for(|held| !held).await.expect("the sender is here");
        claimed
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>> {
        if Faults::strikes(&self.faults.finishes_away) {
            return Err(away());
        }
        self.faults.finishes_held.subscribe().wait_for(|held| !held).await.expect("the sender is here");
        let bytes = finishes.iter().filter_map(|finish| Some(finish.result.as_ref()?.get().len())).sum();
        self.faults.heaviest.fetch_max(bytes, Ordering::SeqCst);
        let poison = |finish: &Finish| finish.result.as_ref().is_some_and(|result| result.get() == r#""poison""#);
        maybe_panic(&self.faults.panics.finish);
        match self.faults.poison.filter(|_| finishes.iter().any(poison)) {
            Some(Poison::Refused) => return Err(Error::Rejected("poison".into())),
            Some(Poison::Unanswered) => return Err(away()),
            Some(Poison::Panics) => panic!("poison"),
            None => {}
        }
        let finished = self.store.finish(finishes).await?;
        self.faults.finishes.fetch_add(finishes.len(), Ordering::SeqCst);
        if Faults::strikes(&self.faults.finishes_unheard) { Err(away()) } else { Ok(finished) }
    }

    async fn steal(&self, steal: &Steal) -> Result<Vec<(Candidate, Lease)>> {
        self.faults.starts_held.subscribe().wait_for(|held| !held).await.expect("the sender is here");
        let stolen = self.store.steal(steal).await?;
        if !stolen.is_empty() && Faults::strikes(&self.faults.steals_unheard) { Err(away()) } else { Ok(stolen) }
    }

    async fn join(&self, info: &WorkerInfo) -> Result<Box<dyn Session>> {
        let session = self.store.join(info).await?;
        Ok(Box::new(FaultySession { session, faults: self.faults.clone() }))
    }

    // --- the rest is the real store's

    async fn migrate(&self) -> Result<Vec<String>> {
        self.store.migrate().await
    }

    async fn ready(&self) -> Result<()> {
        self.store.ready().await
    }

    async fn accept(&self, jobs: &[NewJob]) -> Result<Vec<Accepted>> {
        self.store.accept(jobs).await
    }

    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>> {
        self.store.depths(limit).await
    }

    async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>> {
        self.store.job(tenant, id).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        self.store.jobs(filter).await
    }

    async fn cancel(&self, tenant: &str, id: JobId) -> Result<Option<Cancelled>> {
        self.store.cancel(tenant, id).await
    }

    async fn callback(&self, tenant: &str, subject: uuid::Uuid) -> Result<Option<Callback>> {
        self.store.callback(tenant, subject).await
    }

    async fn logs(&self, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>> {
        self.store.logs(job, after, limit).await
    }

    async fn trails(&self, after: &[(JobId, Option<EventId>)], most: u32) -> Result<Vec<Option<Trail>>> {
        self.store.trails(after, most).await
    }

    async fn add_file(&self, file: &FileRecord) -> Result<()> {
        self.store.add_file(file).await
    }

    async fn file(&self, tenant: &str, id: FileId) -> Result<Option<FileRecord>> {
        self.store.file(tenant, id).await
    }

    async fn kinds(&self) -> Result<Vec<RegisteredKind>> {
        self.store.kinds().await
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        self.store.workers().await
    }

    async fn fetch(&self, ids: &[JobId]) -> Result<Vec<Option<Candidate>>> {
        maybe_panic(&self.faults.panics.fetch);
        self.faults.starts_held.subscribe().wait_for(|held| !held).await.expect("the sender is here");
        self.store.fetch(ids).await
    }

    async fn decline(&self, pointers: &[Pointer], delay: Duration) -> Result<()> {
        self.store.decline(pointers, delay).await
    }

    async fn report(&self, reports: &[Report]) -> Result<()> {
        maybe_panic(&self.faults.panics.report);
        self.store.report(reports).await
    }

    async fn begin(&self, lease: &Lease) -> Result<Box<dyn Transaction>> {
        let transaction = self.store.begin(lease).await?;
        Ok(Box::new(FaultyTransaction { transaction, faults: self.faults.clone() }))
    }

    async fn promote(&self, window: u32, limit: u32) -> Result<Vec<Dispatch>> {
        maybe_panic(&self.faults.panics.promote);
        self.store.promote(window, limit).await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<Reaped> {
        self.store.reap(policy).await
    }

    async fn prune(&self, retention: &Retention) -> Result<Pruned> {
        self.store.prune(retention).await
    }

    async fn next_due(&self) -> Result<Option<Duration>> {
        self.store.next_due().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl Chains for Faulty {
    async fn unknown(&self, tenant: &str, jobs: &[JobId]) -> Result<Vec<JobId>> {
        self.store.unknown(tenant, jobs).await
    }
    async fn release(&self, limit: u32) -> Result<Released> {
        self.store.release(limit).await
    }
    async fn parents(&self, job: JobId, bytes: u64) -> Result<Vec<ParentEnd>> {
        self.store.parents(job, bytes).await
    }
}

#[async_trait]
impl Batches for Faulty {
    async fn fill_batch(&self, filling: &Filling, jobs: &mut dyn Pages) -> Result<Filled> {
        self.store.fill_batch(filling, jobs).await
    }
    async fn batch(&self, tenant: &str, id: BatchId) -> Result<Option<Batch>> {
        self.store.batch(tenant, id).await
    }
    async fn batches(&self, filter: &BatchFilter) -> Result<Vec<Batch>> {
        self.store.batches(filter).await
    }
    async fn seal_batch(&self, tenant: &str, id: BatchId) -> Result<bool> {
        self.store.seal_batch(tenant, id).await
    }
    async fn cancel_batch(&self, id: BatchId, after: Option<JobId>, limit: u32) -> Result<CancelledPage> {
        self.store.cancel_batch(id, after, limit).await
    }
    async fn retry_batch(&self, tenant: &str, id: BatchId, limit: u32) -> Result<u64> {
        self.store.retry_batch(tenant, id, limit).await
    }
}
