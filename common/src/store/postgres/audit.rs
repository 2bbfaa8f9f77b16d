//! Reading for the auditor, on a connection whose transactions are read-only.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::connection::{Connector, Line, Statement};
use super::intake::microseconds;
use super::ledger::LedgerTable;
use super::rows::{get, get_lane};
use super::runs::bounds;
use super::{callbacks, lanes, migrate, schedules, unique};
use crate::config::DatabaseConfig;
use crate::job::{BatchId, JobId, Nonce, ScheduleId, WorkerId};
use crate::store::audit::{
    Audit, BatchCount, CallbackUse, FireUse, FiredJob, KeyUse, LateSchedule, LedgerColumn, LedgerEntry, LedgerPage,
    Member, Row, Seen, UniqueUse, WaitingJob,
};
use crate::store::row::{count, parse};
use crate::store::{Error, LaneDepth, Result};

/// What [`row`] reads, of the table called `j`. Nothing that the client wrote is among it.
macro_rules! audited_columns {
    () => {
        "j.id, j.kind, j.queue, j.priority::text, j.state::text, j.epoch, j.attempt, j.max_attempts, j.losses,
    j.cancel_requested, j.worker_id, j.run_nonce, j.created_at, j.run_at, j.queued_at, j.started_at, j.finished_at,
    j.result IS NOT NULL AS has_result, j.error IS NOT NULL AS has_error,
    CASE coalesce(jsonb_typeof(j.history), 'array') WHEN 'array' THEN coalesce(jsonb_array_length(j.history), 0) END::bigint
        AS failures, statement_timestamp() AS read_at"
    };
}

pub(super) const NOW: &str = "-- offload: audit, the time\nSELECT statement_timestamp() AS now";

/// A parent that is gone was final.
pub(super) const WAITING: &str = "-- offload: audit, jobs that wait for others
SELECT w.id, w.parents::bigint, p.named, p.unfinished, p.unfollowed,
       greatest(0, extract(epoch FROM statement_timestamp() - greatest(w.created_at, p.last)) * 1000000)::bigint AS since
FROM (SELECT j.id, j.parents, j.created_at FROM offload.jobs j
      WHERE j.not_before IS NOT NULL AND j.id > $1 ORDER BY j.id LIMIT $2) w
CROSS JOIN LATERAL (
    SELECT count(*) AS named, max(q.finished_at) AS last,
           count(*) FILTER (WHERE q.state IN ('scheduled', 'queued', 'running')) AS unfinished,
           count(*) FILTER (WHERE q.state IN ('scheduled', 'queued', 'running') AND NOT (q.followed AND q.linked)) AS unfollowed
    FROM offload.job_parents p LEFT JOIN offload.jobs q ON q.id = p.parent_id WHERE p.job_id = w.id) p
ORDER BY w.id";

/// An index on a partitioned table is valid once every partition has its part of it, and the partitions share no id.
pub(super) const PRIMARY_KEY: &str = "-- offload: audit, the primary key
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = 'offload.jobs'::regclass AND i.indisprimary AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
      AND a.attname = 'id') AS there";

pub(super) const NEWEST: &str =
    "-- offload: audit, the newest job\nSELECT j.id FROM offload.jobs j ORDER BY j.id DESC LIMIT 1";

pub(super) const PAGE: &str = concat!(
    "-- offload: audit, a page
SELECT ",
    audited_columns!(),
    " FROM offload.jobs j WHERE j.id > $1 AND j.id <= $2 ORDER BY j.id LIMIT $3"
);

pub(super) const LOOK: &str = concat!(
    "-- offload: audit, a further look
SELECT ",
    audited_columns!(),
    " FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id WHERE j.id BETWEEN $2 AND $3"
);

pub(super) const RUNNING: &str = concat!(
    "-- offload: audit, what runs
SELECT ",
    audited_columns!(),
    " FROM offload.jobs j WHERE j.state = 'running' ORDER BY j.worker_id LIMIT $1"
);

pub(super) const QUEUED: &str = concat!(
    "-- offload: audit, what has been queued for long
WITH RECURSIVE ",
    lanes::filled!(),
    "
SELECT o.* FROM filled f CROSS JOIN LATERAL (
    SELECT ",
    audited_columns!(),
    " FROM offload.jobs j
    WHERE j.state = 'queued' AND j.queue = f.queue AND j.priority = f.priority
      AND j.queued_at < statement_timestamp() - $1 * interval '1 microsecond'
    ORDER BY j.queued_at LIMIT $2) o"
);

pub(super) const DUE: &str = concat!(
    "-- offload: audit, what has been due for long
WITH RECURSIVE ",
    lanes::sources!(),
    "
SELECT o.* FROM sources s CROSS JOIN LATERAL (
    SELECT ",
    audited_columns!(),
    " FROM offload.jobs j
    WHERE j.state = 'scheduled' AND j.queue = s.queue AND j.priority = s.priority AND j.kind = s.kind
      AND j.run_at < statement_timestamp() - $1 * interval '1 microsecond'
    ORDER BY j.run_at LIMIT $2) o"
);

pub(super) const MEMBERS: &str = "-- offload: audit, the workers
SELECT w.id, w.slots, w.queues, w.kinds, coalesce(w.reaped_at, w.left_at) IS NOT NULL AS gone, r.running, r.suspects,
       greatest(0, extract(epoch FROM statement_timestamp() - w.beat_at) * 1000000)::bigint AS silent
FROM offload.workers w CROSS JOIN LATERAL (
    SELECT count(*) AS running, count(*) FILTER (WHERE j.losses >= 2) AS suspects
    FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = w.id) r";

pub(super) const KEYS: &str = "-- offload: audit, idempotency keys
SELECT k.tenant, k.key, k.job_id,
       j.id IS NOT NULL OR EXISTS (SELECT FROM offload.batches b WHERE b.id = k.job_id) AS present,
       greatest(0, extract(epoch FROM statement_timestamp() - k.created_at) * 1000000)::bigint AS age
FROM (SELECT * FROM offload.idempotency_keys WHERE (tenant, key) > ($1, $2) ORDER BY tenant, key LIMIT $3) k
LEFT JOIN offload.jobs j ON j.id = k.job_id
ORDER BY k.tenant, k.key";

pub(super) const BATCHES: &str = "-- offload: audit, batches
SELECT b.id, b.total, b.succeeded, b.failed, b.cancelled, b.sealed, b.finished_at IS NOT NULL AS finished, r.*,
       greatest(0, extract(epoch FROM statement_timestamp() - b.created_at) * 1000000)::bigint AS age
FROM (SELECT * FROM offload.batches WHERE id > $1 ORDER BY id LIMIT $2) b CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE j.state = 'succeeded') AS rows_succeeded,
           count(*) FILTER (WHERE j.state = 'failed') AS rows_failed,
           count(*) FILTER (WHERE j.state = 'cancelled') AS rows_cancelled,
           count(*) FILTER (WHERE j.state IN ('scheduled', 'queued', 'running')) AS unfinished
    FROM offload.jobs j WHERE j.batch_id = b.id) r
ORDER BY b.id";

/// A PostgreSQL database, to be audited.
pub struct PostgresAudit {
    line: Mutex<Line>,
}

impl PostgresAudit {
    /// Connects. `instance` names this process, as for [`super::PostgresStore::open`].
    ///
    /// # Errors
    /// [`Error::Rejected`] where the URL cannot be read; [`Error::Unavailable`] where the server is away;
    /// [`Error::NotMigrated`] where the schema is not this program's.
    pub async fn connect(config: &DatabaseConfig, url: &str, instance: &str) -> Result<Self> {
        let mut line = Connector::new(config, url, instance)?.read_only().connect("audit").await?;
        migrate::ready(&mut line).await?;
        Ok(Self { line: Mutex::new(line) })
    }

    async fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().await
    }

    async fn read(&self, statement: Statement<'_>) -> Result<Vec<Row>> {
        self.line().await.rows(statement).await?.iter().map(row).collect()
    }
}

#[async_trait]
impl Audit for PostgresAudit {
    async fn now(&self) -> Result<DateTime<Utc>> {
        let row = self.line().await.row(sqlx::query(NOW)).await?;
        row.map_or_else(|| Err(Error::Corrupt("the database knows no time".into())), |row| get(&row, "now"))
    }

    async fn ambiguity(&self) -> Result<Option<String>> {
        let row = self.line().await.row(sqlx::query(PRIMARY_KEY)).await?;
        let there = row.map_or(Ok(false), |row| get(&row, "there"))?;
        Ok((!there).then(|| "offload.jobs has no valid primary key on id".to_owned()))
    }

    async fn newest(&self) -> Result<Option<JobId>> {
        let row = self.line().await.row(sqlx::query(NEWEST)).await?;
        row.map(|row| Ok(JobId(get(&row, "id")?))).transpose()
    }

    async fn page(&self, after: Option<JobId>, through: JobId, limit: u32) -> Result<Vec<Seen>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let statement = sqlx::query(PAGE).bind(after).bind(through.0).bind(i64::from(limit));
        self.line().await.rows(statement).await?.iter().map(seen).collect()
    }

    async fn look(&self, ids: &[JobId]) -> Result<Vec<Seen>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let (least, greatest) = bounds(&ids);
        let statement = sqlx::query(LOOK).bind(ids).bind(least).bind(greatest);
        self.line().await.rows(statement).await?.iter().map(seen).collect()
    }

    async fn running(&self, limit: u32) -> Result<Vec<Row>> {
        self.read(sqlx::query(RUNNING).bind(i64::from(limit))).await
    }

    async fn queued(&self, longer_than: Duration, limit: u32) -> Result<Vec<Row>> {
        self.read(sqlx::query(QUEUED).bind(microseconds(longer_than)).bind(i64::from(limit))).await
    }

    async fn due(&self, longer_than: Duration, limit: u32) -> Result<Vec<Row>> {
        self.read(sqlx::query(DUE).bind(microseconds(longer_than)).bind(i64::from(limit))).await
    }

    async fn depths(&self, limit: u32) -> Result<Vec<LaneDepth>> {
        lanes::depths(&mut *self.line().await, limit).await
    }

    async fn members(&self) -> Result<Option<Vec<Member>>> {
        let member = |row: &PgRow| {
            Ok(Member {
                id: WorkerId(get(row, "id")?),
                gone: get(row, "gone")?,
                silent: Duration::from_micros(get::<i64>(row, "silent")?.unsigned_abs()),
                slots: count("slots", get(row, "slots")?)?,
                queues: get(row, "queues")?,
                kinds: get(row, "kinds")?,
                running: get::<i64>(row, "running")?.unsigned_abs(),
                suspects: get::<i64>(row, "suspects")?.unsigned_abs(),
            })
        };
        self.line().await.rows(sqlx::query(MEMBERS)).await?.iter().map(member).collect::<Result<_>>().map(Some)
    }

    async fn keys(&self, after: Option<&KeyUse>, limit: u32) -> Result<Vec<KeyUse>> {
        let (tenant, key) = after.map_or(("", ""), |used| (used.tenant.as_str(), used.key.as_str()));
        let statement = sqlx::query(KEYS).bind(tenant).bind(key).bind(i64::from(limit));
        let used = |row: &PgRow| {
            Ok(KeyUse {
                tenant: get(row, "tenant")?,
                key: get(row, "key")?,
                job: JobId(get(row, "job_id")?),
                age: Duration::from_micros(get::<i64>(row, "age")?.unsigned_abs()),
                present: get(row, "present")?,
            })
        };
        self.line().await.rows(statement).await?.iter().map(used).collect()
    }

    async fn fires(&self, after: Option<(ScheduleId, DateTime<Utc>)>, limit: u32) -> Result<Vec<FireUse>> {
        schedules::audited_fires(&mut *self.line().await, after, limit).await
    }

    async fn fired(&self, after: Option<(ScheduleId, JobId)>, limit: u32) -> Result<Vec<FiredJob>> {
        schedules::audited_jobs(&mut *self.line().await, after, limit).await
    }

    async fn late_schedules(&self, longer_than: Duration, limit: u32) -> Result<Vec<LateSchedule>> {
        schedules::late(&mut *self.line().await, longer_than, limit).await
    }

    async fn batches(&self, after: Option<BatchId>, limit: u32) -> Result<Vec<BatchCount>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let statement = sqlx::query(BATCHES).bind(after).bind(i64::from(limit));
        let count = |row: &PgRow| {
            Ok(BatchCount {
                id: BatchId(get(row, "id")?),
                total: get(row, "total")?,
                counted: [get(row, "succeeded")?, get(row, "failed")?, get(row, "cancelled")?],
                found: [get(row, "rows_succeeded")?, get(row, "rows_failed")?, get(row, "rows_cancelled")?],
                unfinished: get(row, "unfinished")?,
                sealed: get(row, "sealed")?,
                finished: get(row, "finished")?,
                age: Duration::from_micros(get::<i64>(row, "age")?.unsigned_abs()),
            })
        };
        self.line().await.rows(statement).await?.iter().map(count).collect()
    }

    async fn callbacks(&self, after: Option<Uuid>, limit: u32) -> Result<Vec<CallbackUse>> {
        callbacks::used(&mut *self.line().await, after, limit).await
    }

    async fn unique_keys(&self, after: Option<&UniqueUse>, limit: u32) -> Result<Vec<UniqueUse>> {
        unique::used(&mut *self.line().await, after, limit).await
    }

    async fn waiting(&self, after: Option<JobId>, limit: u32) -> Result<Vec<WaitingJob>> {
        let waiting = |row: &PgRow| {
            Ok(WaitingJob {
                id: JobId(get(row, "id")?),
                parents: get(row, "parents")?,
                named: get(row, "named")?,
                unfinished: get(row, "unfinished")?,
                unfollowed: get(row, "unfollowed")?,
                since: Duration::from_micros(get::<i64>(row, "since")?.unsigned_abs()),
            })
        };
        let list = sqlx::query(WAITING).bind(after.map_or(Uuid::nil(), |id| id.0)).bind(i64::from(limit));
        self.line().await.rows(list).await?.iter().map(waiting).collect()
    }

    async fn blank_in_ledger(&self, ledger: &LedgerColumn) -> Result<u64> {
        let mut line = self.line().await;
        LedgerTable::find(&mut line, ledger).await?.blank(&mut line).await
    }

    async fn ledger_page(&self, ledger: &LedgerColumn, from: Option<&str>, limit: u32) -> Result<LedgerPage> {
        let mut line = self.line().await;
        LedgerTable::find(&mut line, ledger).await?.page(&mut line, from, limit).await
    }

    async fn in_ledger(&self, ledger: &LedgerColumn, jobs: &[JobId]) -> Result<Vec<LedgerEntry>> {
        let mut line = self.line().await;
        LedgerTable::find(&mut line, ledger).await?.entries(&mut line, jobs).await
    }

    /// Dropping it closes the connection.
    async fn close(&self) {}
}

fn seen(row: &PgRow) -> Result<Seen> {
    let id = JobId(get(row, "id")?);
    Ok(Seen { id, row: self::row(row).map_err(|error| error.to_string()) })
}

fn row(row: &PgRow) -> Result<Row> {
    Ok(Row {
        id: JobId(get(row, "id")?),
        kind: get(row, "kind")?,
        lane: get_lane(row)?,
        state: parse("state", get(row, "state")?)?,
        epoch: get(row, "epoch")?,
        attempt: get::<i32>(row, "attempt")?.into(),
        max_attempts: get::<i32>(row, "max_attempts")?.into(),
        losses: get::<i32>(row, "losses")?.into(),
        cancel_requested: get(row, "cancel_requested")?,
        worker: get::<Option<_>>(row, "worker_id")?.map(WorkerId),
        nonce: get::<Option<_>>(row, "run_nonce")?.map(Nonce),
        created_at: get(row, "created_at")?,
        run_at: get(row, "run_at")?,
        queued_at: get(row, "queued_at")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
        has_result: get(row, "has_result")?,
        has_error: get(row, "has_error")?,
        failures: get(row, "failures")?,
        read_at: get(row, "read_at")?,
    })
}
