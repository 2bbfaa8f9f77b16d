//! What is read beside the writer.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqlitePool};

use super::error::Result;
use super::rows::{candidate, candidate_columns, file, hex_list, job, job_columns, lane, micros, time};
use crate::clock;
use crate::job::{Epoch, FileId, Job, JobId, LogLine, State, WorkerId};
use crate::kind::KindSpec;
use crate::store::{Candidate, FileRecord, JobFilter, LaneDepth};

pub(super) const JOB: &str = concat!(
    "-- read a job
SELECT ",
    job_columns!(),
    " FROM offload_jobs WHERE tenant = ?1 AND id = ?2"
);

const LIST: &str = concat!(
    "-- list jobs
SELECT ",
    job_columns!(),
    " FROM offload_jobs WHERE tenant = "
);

pub(super) const FETCH: &str = concat!(
    "-- fetch jobs right before their start
SELECT ",
    candidate_columns!(),
    " FROM offload_jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))"
);

/// `CROSS JOIN` keeps the order: each stream's head, and not every row that is due later.
pub(super) const DEPTHS: &str = "-- how full the lanes are
SELECT queue, priority,
    (SELECT count(*) FROM (SELECT 1 FROM offload_jobs AS j
        WHERE j.state = 'queued' AND j.queue = lanes.queue AND j.priority = lanes.priority LIMIT ?1)) AS queued,
    EXISTS (SELECT 1 FROM offload_streams AS s CROSS JOIN offload_jobs AS j
        WHERE s.queue = lanes.queue AND s.priority = lanes.priority AND j.state = 'scheduled'
            AND j.queue = s.queue AND j.priority = s.priority AND j.kind = s.kind AND j.run_at <= ?2) AS backlog
FROM (SELECT DISTINCT queue, priority FROM offload_streams) AS lanes";

pub(super) const NEXT_DUE: &str = "-- when the next job is due
SELECT min((SELECT min(run_at) FROM offload_jobs AS j
    WHERE j.state = 'scheduled' AND j.queue = s.queue AND j.priority = s.priority AND j.kind = s.kind))
FROM offload_streams AS s";

const LOGS: &str = "-- read log lines
SELECT epoch, n, at, level, message FROM offload_logs
WHERE job_id = ?1 AND (epoch, n) > (?2, ?3) AND fraction IS NULL ORDER BY epoch, n LIMIT ?4";

const FILE: &str = "-- read a file's record
SELECT id, tenant, content_type, bytes, sha256, created_at FROM offload_files WHERE tenant = ?1 AND id = ?2";

const KINDS: &str = "-- read the kinds
SELECT spec FROM offload_kinds ORDER BY name";

pub(super) const RUNNING: &str = "-- count what each worker runs
SELECT worker_id, count(*) AS running FROM offload_jobs WHERE state = 'running' GROUP BY worker_id";

/// See [`crate::store::Store::job`].
pub(super) async fn one(readers: &SqlitePool, tenant: &str, id: JobId) -> Result<Option<Job>> {
    let row = sqlx::query(JOB).bind(tenant).bind(id.0).fetch_optional(readers).await?;
    row.map(|row| job(&row, micros(clock::now()))).transpose()
}

/// See [`crate::store::Store::jobs`].
pub(super) async fn list(readers: &SqlitePool, filter: &JobFilter) -> Result<Vec<Job>> {
    let now = micros(clock::now());
    let rows = listing(filter, now).build().fetch_all(readers).await?;
    rows.iter().map(|row| job(row, now)).collect()
}

fn listing(filter: &JobFilter, now: i64) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(LIST);
    sql.push_bind(filter.tenant.clone());
    // A due first run is `queued` to a client, whether or not promotion has admitted it.
    match filter.state {
        Some(State::Queued) => {
            sql.push(" AND (state = 'queued' OR (state = 'scheduled' AND attempt = 0 AND run_at <= ");
            sql.push_bind(now).push("))");
        }
        Some(State::Scheduled) => {
            sql.push(" AND state = 'scheduled' AND (attempt > 0 OR run_at > ").push_bind(now).push(")");
        }
        Some(state) => drop(sql.push(" AND state = ").push_bind(state.as_str())),
        None => {}
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND kind = ").push_bind(kind.clone());
    }
    if let Some(queue) = &filter.queue {
        sql.push(" AND queue = ").push_bind(queue.clone());
    }
    if let Some(batch) = filter.batch_id {
        sql.push(" AND batch_id = ").push_bind(batch);
    }
    if let Some(schedule) = filter.schedule_id {
        sql.push(" AND schedule_id = ").push_bind(schedule);
    }
    if let Some(tag) = &filter.tag {
        sql.push(" AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ").push_bind(tag.clone()).push(")");
    }
    if let Some(after) = filter.created_after {
        sql.push(" AND created_at >= ").push_bind(micros(after));
    }
    if let Some(before) = filter.created_before {
        sql.push(" AND created_at < ").push_bind(micros(before));
    }
    if let Some(id) = filter.before {
        sql.push(" AND id < ").push_bind(id.0);
    }
    sql.push(" ORDER BY id DESC LIMIT ").push_bind(filter.limit);
    sql
}

/// See [`crate::store::Store::fetch`].
pub(super) async fn fetch(readers: &SqlitePool, ids: &[JobId]) -> Result<Vec<Option<Candidate>>> {
    let rows = sqlx::query(FETCH).bind(hex_list(ids.iter().map(|id| id.0))).fetch_all(readers).await?;
    let rows = rows.iter().map(candidate).collect::<Result<Vec<_>>>()?;
    let found: HashMap<JobId, Candidate> = rows.into_iter().map(|row| (row.id, row)).collect();
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// See [`crate::store::Store::depths`].
pub(super) async fn depths(readers: &SqlitePool, limit: u32) -> Result<Vec<LaneDepth>> {
    let rows = sqlx::query(DEPTHS).bind(limit).bind(micros(clock::now())).fetch_all(readers).await?;
    let depth = |row: &SqliteRow| {
        let queued: i64 = row.try_get("queued")?;
        Ok(LaneDepth { lane: lane(row)?, queued: queued.unsigned_abs(), backlog: row.try_get("backlog")? })
    };
    rows.iter().map(depth).collect()
}

/// When the next scheduled row is due: microseconds from now, 0 if it is already.
pub(super) async fn next_due(readers: &SqlitePool) -> Result<Option<u64>> {
    let due: Option<i64> = sqlx::query_scalar(NEXT_DUE).fetch_one(readers).await?;
    let now = micros(clock::now());
    Ok(due.map(|due| due.saturating_sub(now).max(0).unsigned_abs()))
}

/// See [`crate::store::Store::logs`].
pub(super) async fn logs(
    readers: &SqlitePool,
    job: JobId,
    after: Option<(Epoch, u32)>,
    limit: u32,
) -> Result<Vec<LogLine>> {
    let (epoch, n) = after.map_or((Epoch::MIN, -1), |(epoch, n)| (epoch, i64::from(n)));
    let rows = sqlx::query(LOGS).bind(job.0).bind(epoch).bind(n).bind(limit).fetch_all(readers).await?;
    let line = |row: &SqliteRow| {
        let (epoch, n): (Epoch, u32) = (row.try_get("epoch")?, row.try_get("n")?);
        Ok(LogLine {
            id: format!("{epoch}-{n}"),
            at: time(row.try_get("at")?)?,
            level: row.try_get("level")?,
            message: row.try_get("message")?,
        })
    };
    rows.iter().map(line).collect()
}

/// See [`crate::store::Store::file`].
pub(super) async fn file_record(readers: &SqlitePool, tenant: &str, id: FileId) -> Result<Option<FileRecord>> {
    let row = sqlx::query(FILE).bind(tenant).bind(id.0).fetch_optional(readers).await?;
    row.as_ref().map(file).transpose()
}

/// Every kind that was ever registered, by name.
pub(super) async fn kinds(readers: &SqlitePool) -> Result<Vec<KindSpec>> {
    let specs: Vec<String> = sqlx::query_scalar(KINDS).fetch_all(readers).await?;
    specs.iter().map(|spec| Ok(crate::store::row::json("spec", spec)?)).collect()
}

/// How many claimed jobs each worker holds.
pub(super) async fn running(readers: &SqlitePool) -> Result<HashMap<WorkerId, u64>> {
    let rows = sqlx::query(RUNNING).fetch_all(readers).await?;
    let count = |row: &SqliteRow| {
        let running: i64 = row.try_get("running")?;
        Ok((WorkerId(row.try_get("worker_id")?), running.unsigned_abs()))
    };
    rows.iter().map(count).collect()
}
