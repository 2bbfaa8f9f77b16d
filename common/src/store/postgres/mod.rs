//! PostgreSQL, 15 or newer.
//!
//! Tables live in the schema `offload`, and every name is qualified. Each method is one statement, or a few, on a
//! connection that is taken out for it ([`pool`]); batches travel as arrays. What the statements have in common:
//!
//! - they take rows in the order of their ids, so that no two wait for each other;
//! - the database's clock is read as `statement_timestamp()`, which goes on inside a handler's transaction;
//! - a transition names the epoch and the state that it saw.

mod audit;
mod batches;
mod callbacks;
mod chains;
mod connection;
mod consequences;
mod copy;
mod directory;
mod error;
mod fill;
mod finish;
mod intake;
mod lanes;
mod ledger;
mod liveness;
mod migrate;
mod partitions;
mod pool;
mod prune;
mod reads;
mod reap;
mod reports;
mod rows;
mod runs;
mod schedules;
mod session;
mod sql;
mod trails;
mod transaction;
mod unique;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::callback::Callback;
use crate::config::DatabaseConfig;
use crate::job::{Epoch, EventId, FileId, Job, JobId, Lease, LogLine, NewJob, Trail, WorkerId};
use crate::store::{
    Accepted, Cancelled, Candidate, Claim, Claimed, Dispatch, FileRecord, Finish, Finished, JobFilter, LaneDepth,
    Pointer, Pruned, ReapPolicy, Reaped, RegisteredKind, Report, Result, Retention, Session, Steal, Store, Transaction,
    Worker, WorkerInfo,
};

pub use audit::PostgresAudit;

use connection::Connector;
use pool::{Connections, Held, Purpose};

/// A PostgreSQL database.
pub struct PostgresStore {
    connections: Arc<Connections>,
    watch: liveness::Watch,
    last_finishes: prune::LastFinishes,
}

impl PostgresStore {
    /// Reads the URL; connects when first used, and again whenever that is needed. `instance` names this process and no
    /// other: its connections are called after it, and closed with it if it is found dead.
    ///
    /// # Errors
    /// [`crate::store::Error::Rejected`] where the URL or the time-out cannot be read.
    pub fn open(config: &DatabaseConfig, url: &str, instance: &str) -> Result<Self> {
        let connector = Connector::new(config, url, instance)?;
        Ok(Self {
            connections: Connections::new(connector, config.max_connections),
            watch: liveness::Watch::default(),
            last_finishes: prune::LastFinishes::default(),
        })
    }

    async fn hot(&self) -> Result<Held> {
        self.connections.take(Purpose::Hot).await
    }

    async fn patient(&self) -> Result<Held> {
        self.connections.take(Purpose::Patient).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn migrate(&self) -> Result<Vec<String>> {
        migrate::migrate(self.connections.connector()).await
    }

    async fn ready(&self) -> Result<()> {
        migrate::ready(&mut *self.patient().await?).await
    }

    async fn accept(&self, jobs: &[NewJob]) -> Result<Vec<Accepted>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        intake::accept(&mut *self.hot().await?, jobs).await
    }

    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>> {
        lanes::depths(&mut *self.patient().await?, limit).await
    }

    async fn job(&self, tenant: &str, id: JobId) -> Result<Option<Job>> {
        reads::read(&mut *self.patient().await?, tenant, id).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        reads::list(&mut *self.patient().await?, filter).await
    }

    async fn cancel(&self, tenant: &str, id: JobId) -> Result<Option<Cancelled>> {
        reads::cancel(&mut *self.patient().await?, tenant, id).await
    }

    async fn callback(&self, tenant: &str, subject: Uuid) -> Result<Option<Callback>> {
        callbacks::read(&mut *self.patient().await?, tenant, subject).await
    }

    async fn logs(&self, job: JobId, after: Option<(Epoch, u32)>, limit: u32) -> Result<Vec<LogLine>> {
        reports::logs(&mut *self.patient().await?, job, after, limit).await
    }

    async fn trails(&self, after: &[(JobId, Option<EventId>)], most: u32) -> Result<Vec<Option<Trail>>> {
        if after.is_empty() {
            return Ok(Vec::new());
        }
        trails::trails(&mut *self.patient().await?, after, most).await
    }

    async fn add_file(&self, file: &FileRecord) -> Result<()> {
        directory::add_file(&mut *self.patient().await?, file).await
    }

    async fn file(&self, tenant: &str, id: FileId) -> Result<Option<FileRecord>> {
        directory::file(&mut *self.patient().await?, tenant, id).await
    }

    async fn kinds(&self) -> Result<Vec<RegisteredKind>> {
        directory::kinds(&mut *self.patient().await?).await
    }

    async fn workers(&self) -> Result<Vec<Worker>> {
        directory::workers(&mut *self.patient().await?).await
    }

    async fn fetch(&self, ids: &[JobId]) -> Result<Vec<Option<Candidate>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        runs::fetch(&mut *self.hot().await?, ids).await
    }

    async fn claim(&self, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        runs::claim(&mut *self.hot().await?, worker, claims).await
    }

    async fn finish(&self, finishes: &[Finish]) -> Result<Vec<Finished>> {
        if finishes.is_empty() {
            return Ok(Vec::new());
        }
        finish::finish(&mut *self.hot().await?, finishes).await
    }

    async fn decline(&self, pointers: &[Pointer], delay: Duration) -> Result<()> {
        if pointers.is_empty() {
            return Ok(());
        }
        runs::decline(&mut *self.hot().await?, pointers, delay).await
    }

    async fn report(&self, reports: &[Report]) -> Result<()> {
        if reports.is_empty() {
            return Ok(());
        }
        reports::report(&mut *self.hot().await?, reports).await
    }

    async fn begin(&self, lease: &Lease) -> Result<Box<dyn Transaction>> {
        Ok(Box::new(transaction::begin(&self.connections, lease).await?))
    }

    async fn join(&self, info: &WorkerInfo) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::join(self.connections.connector(), info).await?))
    }

    async fn promote(&self, window: u32, limit: u32) -> Result<Vec<Dispatch>> {
        lanes::promote(&mut *self.patient().await?, window, limit).await
    }

    async fn steal(&self, steal: &Steal) -> Result<Vec<(Candidate, Lease)>> {
        lanes::steal(&mut *self.patient().await?, steal).await
    }

    async fn reap(&self, policy: &ReapPolicy) -> Result<Reaped> {
        let own = self.connections.connector().instance();
        reap::reap(&mut *self.patient().await?, own, &self.watch, policy).await
    }

    async fn prune(&self, retention: &Retention) -> Result<Pruned> {
        prune::prune(&mut *self.patient().await?, &self.last_finishes, retention).await
    }

    async fn next_due(&self) -> Result<Option<Duration>> {
        lanes::next_due(&mut *self.patient().await?).await
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqlSafeStr};

    use super::error::Origin;
    use super::*;
    use crate::testing::database::TestDatabase;

    /// Every statement that does not depend on what is asked for.
    const STATEMENTS: [&str; 106] = [
        audit::BATCHES,
        audit::DUE,
        audit::KEYS,
        audit::LOOK,
        audit::MEMBERS,
        audit::NEWEST,
        audit::NOW,
        audit::PAGE,
        audit::PRIMARY_KEY,
        audit::QUEUED,
        audit::RUNNING,
        audit::WAITING,
        batches::BATCH,
        batches::BATCHES,
        batches::ERRORS,
        batches::FAILED,
        batches::KEYS,
        batches::REPEAT,
        batches::SEAL,
        batches::UNFINISHED,
        callbacks::AUDIT,
        callbacks::CALLBACK,
        callbacks::FIRED,
        callbacks::KEEP,
        callbacks::OF_BATCH,
        callbacks::OF_JOBS,
        chains::ENDED,
        chains::ENDED_BEFORE,
        chains::FOLLOW,
        chains::FORGET,
        chains::KNOWN,
        chains::LOCK_PARENTS,
        chains::LOOK,
        chains::NAME_PARENTS,
        chains::PARENTS,
        chains::RELEASE,
        chains::TAKE_TURNS,
        chains::TELL,
        chains::WAIT,
        consequences::CLOSE,
        consequences::COUNT,
        consequences::FOLLOWED,
        directory::ADD_FILE,
        directory::FILE,
        directory::KINDS,
        directory::WORKERS,
        fill::GROW,
        fill::LEAVE_OUT,
        fill::LOCK_BATCHES,
        fill::LOCK_KEY,
        fill::MAKE,
        fill::OPEN,
        fill::TAKE_KEY,
        finish::FINISH,
        finish::FINISHED,
        intake::ACCEPT,
        lanes::DEPTHS,
        lanes::NEXT_DUE,
        lanes::PROMOTE,
        lanes::STEAL,
        lanes::TAKE_TURNS,
        ledger::COLUMN_TYPE,
        liveness::LOOK,
        liveness::MARK,
        liveness::TERMINATE,
        migrate::VERSION,
        partitions::DAYS,
        prune::DELETE_BATCHES,
        prune::DELETE_CALLBACKS,
        prune::DELETE_FILES,
        prune::DELETE_JOBS,
        prune::DELETE_KEYS,
        prune::DELETE_PARENTS,
        prune::FORGET_WORKERS,
        prune::NOW,
        reads::CANCEL,
        reads::CANCEL_LINKED,
        reads::JOB,
        reads::STATE,
        reap::ORPHANS,
        reports::LOGS,
        reports::REPORT,
        runs::CLAIM,
        runs::DECLINE,
        runs::FETCH,
        runs::REFUSED,
        session::BEAT,
        session::HELD,
        session::JOIN,
        session::LEAVE,
        session::LOCK,
        session::NEXT_KEY,
        session::OVERDUE,
        trails::TRAILS,
        transaction::COLUMNS,
        transaction::HOLDS,
        transaction::LOCK_TABLE_NAME,
        transaction::TABLE_EXISTS,
        unique::AUDIT,
        unique::FORGET,
        unique::HOLDERS,
        unique::LEAD,
        unique::LOCK_HOLDERS,
        unique::RELEASE,
        unique::REMEMBER,
        unique::TAKE,
    ];

    async fn migrated() -> (TestDatabase, PostgresStore) {
        let database = TestDatabase::create().await;
        let config =
            DatabaseConfig { url: None, data: "unused".into(), max_connections: 4, statement_timeout_seconds: 10.0 };
        let store = PostgresStore::open(&config, &database.url(), "statements").expect("a URL");
        store.migrate().await.expect("migrated");
        (database, store)
    }

    #[tokio::test]
    async fn every_statement_fits_the_schema() {
        let (database, _store) = migrated().await;
        let mut connection = PgConnection::connect(&database.url()).await.expect("connected");
        for statement in STATEMENTS.into_iter().chain(schedules::STATEMENTS) {
            assert!(statement.starts_with("-- offload: "), "pg_stat_statements shows the name: {statement}");
            if let Err(error) = (&mut connection).prepare(statement.into_sql_str()).await {
                panic!("{error}\n{statement}");
            }
        }
    }

    /// However many days there are, a row is looked for in the partition that can hold it, by its id.
    #[tokio::test]
    async fn the_hot_paths_look_into_one_partition() {
        let (_database, store) = migrated().await;
        let pointer = match store.accept(&[crate::testing::factory::job()]).await.expect("accepted").remove(0) {
            Accepted::New { dispatch: Some(dispatch), .. } => dispatch.pointer,
            other => panic!("expected a queued job, not {other:?}"),
        };
        let id = format!("'{}'", pointer.id);
        let today = format!("jobs_{}", crate::clock::now().format("%Y%m%d"));
        let mut held = store.hot().await.expect("connected");
        for (name, statement, types, arguments) in [
            ("fetch", runs::FETCH, "uuid[], uuid, uuid", format!("ARRAY[{id}]::uuid[], {id}, {id}")),
            (
                "claim",
                runs::CLAIM,
                "uuid, uuid[], bigint[], bigint[], bigint[], uuid, uuid",
                format!("{id}, ARRAY[{id}]::uuid[], '{{1}}', '{{1}}', '{{0}}', {id}, {id}"),
            ),
            ("job", reads::JOB, "uuid, text", format!("{id}, 'default'")),
        ] {
            held.single(Origin::Offload, format!("PREPARE hot_{name} ({types}) AS {statement}"))
                .await
                .expect("prepared");
            let explain = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE hot_{name} ({arguments})");
            let rows = held.rows(sqlx::query(AssertSqlSafe(explain)).persistent(false)).await.expect("explained");
            let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let scans: Vec<_> =
                plan.iter().filter(|line| line.contains("Scan") && line.contains(" on jobs_")).collect();
            assert!(
                matches!(scans[..], [scan] if scan.contains("Index Scan") && scan.contains(&today)),
                "{name}: {plan:#?}"
            );
        }
    }
}
