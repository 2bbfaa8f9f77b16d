//! Reading for the auditor, beside whatever process has the file open.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{ConnectOptions, Row as _};
use uuid::Uuid;

use super::error::Result;
use super::fleet::Fleet;
use super::ledger::LedgerTable;
use super::rows::{duration_micros, hex_list, job_id, lane, micros, nonce, optional_time, state, time};
use super::{SqliteStore, callbacks, connection, migrate, reads, schedules, unique};
use crate::clock;
use crate::job::{BatchId, JobId, ScheduleId, WorkerId};
use crate::store::audit::{
    Audit, BatchCount, CallbackUse, FireUse, FiredJob, KeyUse, LateSchedule, LedgerColumn, LedgerEntry, LedgerPage,
    Member, Row, Seen, UniqueUse, WaitingJob,
};
use crate::store::{self, Error, LaneDepth};

/// What [`row`] reads. Nothing that the client wrote is among it.
macro_rules! audited_columns {
    () => {
        "id, kind, queue, priority, state, epoch, attempt, max_attempts, losses, cancel_requested, worker_id, run_nonce, \
         created_at, run_at, queued_at, started_at, finished_at, result IS NOT NULL AS has_result, \
         CASE WHEN json_valid(history) AND json_type(history) = 'array' THEN json_array_length(history) END AS failures"
    };
}

const TABLE: &str = "-- audit, the primary key
SELECT name FROM pragma_table_info('offload_jobs') WHERE pk > 0";

const NEWEST: &str = "-- audit, the newest job
SELECT max(id) FROM offload_jobs";

pub(super) const PAGE: &str = concat!(
    "-- audit, a page
SELECT ",
    audited_columns!(),
    " FROM offload_jobs WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3"
);

pub(super) const LOOK: &str = concat!(
    "-- audit, a further look
SELECT ",
    audited_columns!(),
    " FROM offload_jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))"
);

pub(super) const RUNNING: &str = concat!(
    "-- audit, what runs
SELECT ",
    audited_columns!(),
    " FROM offload_jobs WHERE state = 'running' LIMIT ?1"
);

const LANES: &str = "-- audit, the lanes
SELECT DISTINCT queue, priority FROM offload_streams";

pub(super) const QUEUED: &str = concat!(
    "-- audit, what has been queued for long
SELECT ",
    audited_columns!(),
    " FROM offload_jobs WHERE state = 'queued' AND queue = ?1 AND priority = ?2 AND queued_at < ?3
ORDER BY queued_at LIMIT ?4"
);

const STREAMS: &str = "-- audit, the lanes and kinds
SELECT queue, priority, kind FROM offload_streams";

pub(super) const DUE: &str = concat!(
    "-- audit, what has been due for long
SELECT ",
    audited_columns!(),
    " FROM offload_jobs WHERE state = 'scheduled' AND queue = ?1 AND priority = ?2 AND kind = ?3 AND run_at < ?4
ORDER BY run_at LIMIT ?5"
);

pub(super) const HELD: &str = "-- audit, what each worker holds, and how many suspects are among it
SELECT worker_id, count(*) AS running, sum(losses >= 2) AS suspects FROM offload_jobs
WHERE state = 'running' AND length(worker_id) = 16 GROUP BY worker_id";

const KEYS: &str = "-- audit, idempotency keys
SELECT k.tenant, k.key, k.job_id, k.created_at,
    j.id IS NOT NULL OR EXISTS (SELECT 1 FROM offload_batches AS b WHERE b.id = k.job_id) AS present
FROM offload_idempotency_keys AS k LEFT JOIN offload_jobs AS j ON j.id = k.job_id
WHERE (k.tenant, k.key) > (?1, ?2) ORDER BY k.tenant, k.key LIMIT ?3";

const BATCHES: &str = "-- audit, batches
SELECT b.id, b.total, b.succeeded, b.failed, b.cancelled, b.sealed, b.finished_at IS NOT NULL AS finished, b.created_at,
    count(*) FILTER (WHERE j.state = 'succeeded') AS rows_succeeded, count(*) FILTER (WHERE j.state = 'failed') AS rows_failed,
    count(*) FILTER (WHERE j.state = 'cancelled') AS rows_cancelled,
    count(*) FILTER (WHERE j.state IN ('scheduled', 'queued', 'running')) AS unfinished
FROM (SELECT * FROM offload_batches WHERE id > ?1 ORDER BY id LIMIT ?2) AS b
LEFT JOIN offload_jobs AS j ON j.batch_id = b.id
GROUP BY b.id ORDER BY b.id";

/// A parent that is gone was final.
pub(super) const WAITING: &str = "-- audit, jobs that wait for others
SELECT w.id, w.parents, count(p.place) AS named, max(w.created_at, coalesce(max(q.finished_at), 0)) AS since,
    count(*) FILTER (WHERE q.state IN ('scheduled', 'queued', 'running')) AS unfinished,
    count(*) FILTER (WHERE q.state IN ('scheduled', 'queued', 'running') AND NOT (q.followed AND q.linked)) AS unfollowed
FROM (SELECT id, parents, created_at FROM offload_jobs WHERE not_before IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2) AS w
LEFT JOIN offload_job_parents AS p ON p.job_id = w.id LEFT JOIN offload_jobs AS q ON q.id = p.parent_id
GROUP BY w.id ORDER BY w.id";

/// An embedded database, to be audited.
pub struct SqliteAudit {
    readers: SqlitePool,
    /// The workers, where it is this process that has them.
    fleet: Option<Arc<Fleet>>,
}

impl SqliteStore {
    /// The auditor's view of this store.
    #[must_use]
    pub fn audit(&self) -> SqliteAudit {
        SqliteAudit { readers: self.readers.clone(), fleet: Some(self.fleet.clone()) }
    }
}

impl SqliteAudit {
    /// Opens a file for reading, also while another process uses it. Who works on its jobs is not known then.
    ///
    /// # Errors
    /// [`Error::Rejected`] where there is no such file; [`Error::Unavailable`] where it cannot be read;
    /// [`Error::NotMigrated`] where its schema is not this program's.
    pub async fn open(path: &Path) -> store::Result<Self> {
        if !path.is_file() {
            return Err(Error::Rejected(format!("there is no database {}", path.display())));
        }
        // A connection of its own first, since a pool would try until its time is up.
        let opened = connection::reading(path).connect().await;
        opened.map_err(|error| {
            let folder = path.parent().unwrap_or(path).display();
            Error::Unavailable(format!(
                "{} cannot be opened: {error}; reading it takes the right to write in the folder {folder}, where SQLite \
                 keeps what readers and the writer share",
                path.display()
            ))
        })?;
        let readers = connection::readers(path);
        migrate::check(&readers).await?;
        Ok(Self { readers, fleet: None })
    }
}

#[async_trait]
impl Audit for SqliteAudit {
    async fn now(&self) -> store::Result<DateTime<Utc>> {
        Ok(clock::now())
    }

    async fn ambiguity(&self) -> store::Result<Option<String>> {
        let key: Vec<String> = ask(sqlx::query_scalar(TABLE).fetch_all(&self.readers).await)?;
        Ok((key != ["id"]).then(|| "offload_jobs has no primary key on id".to_owned()))
    }

    async fn newest(&self) -> store::Result<Option<JobId>> {
        let newest: Option<uuid::Uuid> = ask(sqlx::query_scalar(NEWEST).fetch_one(&self.readers).await)?;
        Ok(newest.map(JobId))
    }

    async fn page(&self, after: Option<JobId>, through: JobId, limit: u32) -> store::Result<Vec<Seen>> {
        let after = after.map_or(uuid::Uuid::nil(), |id| id.0);
        let page = sqlx::query(PAGE).bind(after).bind(through.0).bind(limit).fetch_all(&self.readers).await;
        Ok(seen(&ask(page)?)?)
    }

    async fn look(&self, ids: &[JobId]) -> store::Result<Vec<Seen>> {
        let ids = hex_list(ids.iter().map(|id| id.0));
        Ok(seen(&ask(sqlx::query(LOOK).bind(ids).fetch_all(&self.readers).await)?)?)
    }

    async fn running(&self, limit: u32) -> store::Result<Vec<Row>> {
        Ok(readable(&ask(sqlx::query(RUNNING).bind(limit).fetch_all(&self.readers).await)?))
    }

    async fn queued(&self, longer_than: Duration, limit: u32) -> store::Result<Vec<Row>> {
        let before = micros(clock::now()).saturating_sub(duration_micros(longer_than));
        let mut rows = Vec::new();
        for source in ask(sqlx::query(LANES).fetch_all(&self.readers).await)? {
            let lane = lane(&source)?;
            let queued = sqlx::query(QUEUED).bind(lane.queue).bind(lane.priority.as_str()).bind(before).bind(limit);
            rows.extend(readable(&ask(queued.fetch_all(&self.readers).await)?));
        }
        Ok(rows)
    }

    async fn due(&self, longer_than: Duration, limit: u32) -> store::Result<Vec<Row>> {
        let before = micros(clock::now()).saturating_sub(duration_micros(longer_than));
        let mut rows = Vec::new();
        for source in ask(sqlx::query(STREAMS).fetch_all(&self.readers).await)? {
            let lane = lane(&source)?;
            let kind: String = ask(source.try_get("kind"))?;
            let due =
                sqlx::query(DUE).bind(lane.queue).bind(lane.priority.as_str()).bind(kind).bind(before).bind(limit);
            rows.extend(readable(&ask(due.fetch_all(&self.readers).await)?));
        }
        Ok(rows)
    }

    async fn depths(&self, limit: u32) -> store::Result<Vec<LaneDepth>> {
        Ok(reads::depths(&self.readers, limit).await?)
    }

    async fn members(&self) -> store::Result<Option<Vec<Member>>> {
        let Some(fleet) = &self.fleet else { return Ok(None) };
        let mut held: HashMap<WorkerId, (u64, u64)> = HashMap::new();
        for row in ask(sqlx::query(HELD).fetch_all(&self.readers).await)? {
            let (running, suspects): (i64, i64) = (ask(row.try_get("running"))?, ask(row.try_get("suspects"))?);
            held.insert(WorkerId(ask(row.try_get("worker_id"))?), (running.unsigned_abs(), suspects.unsigned_abs()));
        }
        let now = clock::now();
        let member = |worker: store::Worker| {
            let (running, suspects) = held.get(&worker.id).copied().unwrap_or_default();
            Member {
                id: worker.id,
                // Who is gone is forgotten.
                gone: false,
                silent: (now - worker.beat_at).to_std().unwrap_or_default(),
                slots: worker.slots,
                queues: worker.queues,
                kinds: worker.kinds,
                running,
                suspects,
            }
        };
        Ok(Some(fleet.workers().into_iter().map(member).collect()))
    }

    async fn keys(&self, after: Option<&KeyUse>, limit: u32) -> store::Result<Vec<KeyUse>> {
        let (tenant, key) = after.map_or(("", ""), |used| (used.tenant.as_str(), used.key.as_str()));
        let rows = ask(sqlx::query(KEYS).bind(tenant).bind(key).bind(limit).fetch_all(&self.readers).await)?;
        let now = clock::now();
        let used = |row: &SqliteRow| {
            Ok(KeyUse {
                tenant: row.try_get("tenant")?,
                key: row.try_get("key")?,
                job: JobId(row.try_get("job_id")?),
                age: (now - time(row.try_get("created_at")?)?).to_std().unwrap_or_default(),
                present: row.try_get("present")?,
            })
        };
        Ok(rows.iter().map(used).collect::<Result<_>>()?)
    }

    async fn fires(&self, after: Option<(ScheduleId, DateTime<Utc>)>, limit: u32) -> store::Result<Vec<FireUse>> {
        Ok(schedules::audited_fires(&self.readers, after, limit).await?)
    }

    async fn fired(&self, after: Option<(ScheduleId, JobId)>, limit: u32) -> store::Result<Vec<FiredJob>> {
        Ok(schedules::audited_jobs(&self.readers, after, limit).await?)
    }

    async fn late_schedules(&self, longer_than: Duration, limit: u32) -> store::Result<Vec<LateSchedule>> {
        Ok(schedules::late(&self.readers, longer_than, limit).await?)
    }

    async fn batches(&self, after: Option<BatchId>, limit: u32) -> store::Result<Vec<BatchCount>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let rows = ask(sqlx::query(BATCHES).bind(after).bind(limit).fetch_all(&self.readers).await)?;
        let now = clock::now();
        let count = |row: &SqliteRow| {
            Ok(BatchCount {
                id: BatchId(row.try_get("id")?),
                total: row.try_get("total")?,
                counted: [row.try_get("succeeded")?, row.try_get("failed")?, row.try_get("cancelled")?],
                found: [row.try_get("rows_succeeded")?, row.try_get("rows_failed")?, row.try_get("rows_cancelled")?],
                unfinished: row.try_get("unfinished")?,
                sealed: row.try_get("sealed")?,
                finished: row.try_get("finished")?,
                age: (now - time(row.try_get("created_at")?)?).to_std().unwrap_or_default(),
            })
        };
        Ok(rows.iter().map(count).collect::<Result<_>>()?)
    }

    async fn callbacks(&self, after: Option<Uuid>, limit: u32) -> store::Result<Vec<CallbackUse>> {
        Ok(callbacks::used(&self.readers, after, limit).await?)
    }

    async fn unique_keys(&self, after: Option<&UniqueUse>, limit: u32) -> store::Result<Vec<UniqueUse>> {
        Ok(unique::used(&self.readers, after, limit).await?)
    }

    async fn waiting(&self, after: Option<JobId>, limit: u32) -> store::Result<Vec<WaitingJob>> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let rows = ask(sqlx::query(WAITING).bind(after).bind(limit).fetch_all(&self.readers).await)?;
        let now = clock::now();
        let waiting = |row: &SqliteRow| {
            Ok(WaitingJob {
                id: job_id(row)?,
                parents: row.try_get("parents")?,
                named: row.try_get("named")?,
                unfinished: row.try_get("unfinished")?,
                unfollowed: row.try_get("unfollowed")?,
                since: (now - time(row.try_get("since")?)?).to_std().unwrap_or_default(),
            })
        };
        Ok(rows.iter().map(waiting).collect::<Result<_>>()?)
    }

    async fn blank_in_ledger(&self, ledger: &LedgerColumn) -> store::Result<u64> {
        Ok(LedgerTable::find(&self.readers, ledger).await?.blank(&self.readers).await?)
    }

    async fn ledger_page(&self, ledger: &LedgerColumn, from: Option<&str>, limit: u32) -> store::Result<LedgerPage> {
        Ok(LedgerTable::find(&self.readers, ledger).await?.page(&self.readers, from, limit).await?)
    }

    async fn in_ledger(&self, ledger: &LedgerColumn, jobs: &[JobId]) -> store::Result<Vec<LedgerEntry>> {
        Ok(LedgerTable::find(&self.readers, ledger).await?.entries(&self.readers, jobs).await?)
    }

    async fn close(&self) {
        self.readers.close().await;
    }
}

fn ask<T>(answer: sqlx::Result<T>) -> Result<T> {
    Ok(answer?)
}

fn seen(rows: &[SqliteRow]) -> Result<Vec<Seen>> {
    let seen = |row: &SqliteRow| {
        Ok(Seen { id: job_id(row)?, row: self::row(row).map_err(|failure| Error::from(failure).to_string()) })
    };
    rows.iter().map(seen).collect()
}

/// Rows that cannot be read are found by the pass over all of them.
fn readable(rows: &[SqliteRow]) -> Vec<Row> {
    rows.iter().filter_map(|row| self::row(row).ok()).collect()
}

fn row(row: &SqliteRow) -> Result<Row> {
    let at = |column| optional_time(row.try_get(column)?);
    let state = state(row)?;
    let failures: Option<i64> = row.try_get("failures")?;
    Ok(Row {
        id: job_id(row)?,
        kind: row.try_get("kind")?,
        lane: lane(row)?,
        state,
        epoch: row.try_get("epoch")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        losses: row.try_get("losses")?,
        cancel_requested: row.try_get("cancel_requested")?,
        worker: row.try_get::<Option<uuid::Uuid>, _>("worker_id")?.map(WorkerId),
        nonce: nonce(row)?,
        created_at: time(row.try_get("created_at")?)?,
        run_at: time(row.try_get("run_at")?)?,
        queued_at: at("queued_at")?,
        started_at: at("started_at")?,
        finished_at: at("finished_at")?,
        has_result: row.try_get("has_result")?,
        // The error is the last entry of the history.
        has_error: failures > Some(0) && state != crate::job::State::Succeeded,
        failures,
        read_at: clock::now(),
    })
}
