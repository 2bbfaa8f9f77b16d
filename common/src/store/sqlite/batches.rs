//! Batches as they are read, sealed, cancelled and repeated.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::error::{Failure, Result};
use super::rows::{hex_list, job, job_columns, job_id, micros, optional_time, time};
use super::{SqliteStore, consequences, fill, intake};
use crate::clock;
use crate::job::{BatchId, JobId};
use crate::store::row::raw;
use crate::store::{
    self, Batch, BatchFilter, Batches, Cancelled, CancelledPage, Counts, Failed, Filled, Filling, Pages,
};

macro_rules! batches {
    ($which:literal) => {
        concat!(
            "-- read batches
SELECT b.*,
    (SELECT count(*) FROM (SELECT batch_id FROM offload_jobs INDEXED BY offload_jobs_running WHERE state = 'running') r
        WHERE r.batch_id = b.id) AS running,
    (SELECT count(*) FROM offload_jobs j WHERE j.batch_id = b.id AND j.state = 'scheduled' AND j.run_at > ?1) AS scheduled
FROM offload_batches b WHERE ",
            $which
        )
    };
}

pub(super) const BATCH: &str = batches!("b.id = ?2 AND b.tenant = ?3");

const BATCHES: &str = batches!(
    "b.tenant = ?2 AND b.id < ?3 AND (?4 IS NULL OR (b.finished_at IS NOT NULL) = ?4)
ORDER BY b.id DESC LIMIT ?5"
);

pub(super) const ERRORS: &str = concat!(
    "-- the first failed jobs of a batch
SELECT ",
    job_columns!(),
    " FROM offload_jobs WHERE batch_id = ?1 AND state = 'failed' ORDER BY id LIMIT 10"
);

const SEAL: &str = "-- seal a batch
UPDATE offload_batches SET sealed = 1 WHERE id = ?1 AND tenant = ?2";

pub(super) const UNFINISHED: &str = "-- jobs of a batch that are not final
SELECT id, tenant FROM offload_jobs
WHERE batch_id = ?1 AND id > ?2 AND state IN ('scheduled', 'queued', 'running') ORDER BY id LIMIT ?3";

/// One that has been repeated is linked no more. One whose unique key a live job has can be repeated when that has ended.
pub(super) const FAILED: &str = "-- failed jobs of a batch that are to be repeated
SELECT f.id FROM offload_jobs AS f
WHERE f.batch_id = ?1 AND f.tenant = ?2 AND f.state = 'failed' AND f.linked AND NOT EXISTS (
    SELECT 1 FROM offload_jobs AS u WHERE u.tenant = f.tenant AND u.kind = f.kind AND u.unique_key = f.unique_key
        AND u.state IN ('scheduled', 'queued', 'running'))
ORDER BY f.id LIMIT ?3";

/// Of several with one unique key, none but the first is repeated.
const REPEAT: &str = "-- repeat a failed job of a batch
INSERT INTO offload_jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, timeout_ms,
    retry_policy, payload, metadata, tags, traceparent, retry_of, batch_id, linked, unique_key)
SELECT ?2, tenant, kind, queue, priority, 'scheduled', ?3, max_attempts, ?4, ?4, timeout_ms, retry_policy, payload, metadata,
    tags, traceparent, id, batch_id, 1, unique_key
FROM offload_jobs WHERE id = ?1
ON CONFLICT (tenant, kind, unique_key) WHERE unique_key IS NOT NULL AND state IN ('scheduled', 'queued', 'running') DO NOTHING";

const REPEATED: &str = "-- jobs of a batch were repeated
UPDATE offload_jobs SET linked = 0 WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

const GROW: &str = "-- a batch has more jobs
UPDATE offload_batches SET total = total + ?2 WHERE id = ?1";

#[async_trait]
impl Batches for SqliteStore {
    async fn fill_batch(&self, filling: &Filling, jobs: &mut dyn Pages) -> store::Result<Filled> {
        Ok(fill::fill(&self.writer, filling, jobs).await?)
    }

    async fn batch(&self, tenant: &str, id: BatchId) -> store::Result<Option<Batch>> {
        Ok(one(self, tenant, id).await?)
    }

    async fn batches(&self, filter: &BatchFilter) -> store::Result<Vec<Batch>> {
        Ok(list(self, filter).await?)
    }

    async fn seal_batch(&self, tenant: &str, id: BatchId) -> store::Result<bool> {
        Ok(seal(self, tenant, id).await?)
    }

    async fn cancel_batch(&self, id: BatchId, after: Option<JobId>, limit: u32) -> store::Result<CancelledPage> {
        Ok(cancel(self, id, after, limit).await?)
    }

    async fn retry_batch(&self, tenant: &str, id: BatchId, limit: u32) -> store::Result<u64> {
        Ok(retry(self, tenant, id, limit).await?)
    }
}

async fn one(store: &SqliteStore, tenant: &str, id: BatchId) -> Result<Option<Batch>> {
    let now = micros(clock::now());
    let found = sqlx::query(BATCH).bind(now).bind(id.0).bind(tenant).fetch_optional(&store.readers).await?;
    let Some(row) = found else { return Ok(None) };
    let rows = sqlx::query(ERRORS).bind(id.0).fetch_all(&store.readers).await?;
    let failed = |row: &SqliteRow| job(row, now).map(|job| Failed { job: job.id, error: job.error });
    Ok(Some(Batch { errors: rows.iter().map(failed).collect::<Result<_>>()?, ..batch(&row, now)? }))
}

async fn list(store: &SqliteStore, filter: &BatchFilter) -> Result<Vec<Batch>> {
    let now = micros(clock::now());
    let rows = sqlx::query(BATCHES)
        .bind(now)
        .bind(&filter.tenant)
        .bind(filter.before.map_or(Uuid::max(), |id| id.0))
        .bind(filter.finished)
        .bind(filter.limit)
        .fetch_all(&store.readers)
        .await?;
    rows.iter().map(|row| batch(row, now)).collect()
}

async fn seal(store: &SqliteStore, tenant: &str, id: BatchId) -> Result<bool> {
    let mut turn = store.writer.turn().await?;
    let sealed = sqlx::query(SEAL).bind(id.0).bind(tenant).execute(turn.connection()).await?;
    let found = sealed.rows_affected() == 1;
    if found {
        consequences::close(turn.connection(), id.0, clock::now()).await?;
    }
    turn.commit().await?;
    Ok(found)
}

async fn cancel(store: &SqliteStore, id: BatchId, after: Option<JobId>, limit: u32) -> Result<CancelledPage> {
    let mut turn = store.writer.turn().await?;
    let page = cancel_page(turn.connection(), id, after, limit).await?;
    turn.commit().await?;
    Ok(page)
}

/// Cancels jobs of a batch within a transaction.
pub(super) async fn cancel_page(
    connection: &mut SqliteConnection,
    id: BatchId,
    after: Option<JobId>,
    limit: u32,
) -> Result<CancelledPage> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let found = sqlx::query(UNFINISHED).bind(id.0).bind(after).bind(limit).fetch_all(&mut *connection).await?;
    let mut page = CancelledPage::default();
    for row in &found {
        let job = job_id(row)?;
        match intake::cancel_one(connection, row.try_get("tenant")?, job).await? {
            Some(Cancelled::Now) => page.ended.push(job),
            Some(Cancelled::Requested) => page.requested.push(job),
            Some(Cancelled::TooLate(_)) | None => {}
        }
    }
    page.next = found.last().filter(|_| found.len() == limit as usize).map(job_id).transpose()?;
    Ok(page)
}

async fn retry(store: &SqliteStore, tenant: &str, id: BatchId, limit: u32) -> Result<u64> {
    let mut turn = store.writer.turn().await?;
    let now = micros(clock::now());
    let failed = sqlx::query(FAILED).bind(id.0).bind(tenant).bind(limit).fetch_all(turn.connection()).await?;
    let failed = failed.iter().map(job_id).collect::<Result<Vec<_>>>()?;
    let mut repeated = Vec::with_capacity(failed.len());
    for old in failed {
        let repeat = sqlx::query(REPEAT).bind(old.0).bind(JobId::new().0).bind(intake::FIRST_EPOCH).bind(now);
        if repeat.execute(turn.connection()).await?.rows_affected() == 1 {
            repeated.push(old);
        }
    }
    let old = hex_list(repeated.iter().map(|id| id.0));
    sqlx::query(REPEATED).bind(old).execute(turn.connection()).await?;
    let more = i64::try_from(repeated.len()).unwrap_or(0);
    sqlx::query(GROW).bind(id.0).bind(more).execute(turn.connection()).await?;
    turn.commit().await?;
    Ok(repeated.len() as u64)
}

fn batch(row: &SqliteRow, now: i64) -> Result<Batch> {
    let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    let (total, created_at) = (number("total")?, row.try_get("created_at")?);
    let counts = Counts {
        scheduled: number("scheduled")?,
        queued: 0,
        running: number("running")?,
        succeeded: number("succeeded")?,
        failed: number("failed")?,
        cancelled: number("cancelled")?,
    };
    let finished_at: Option<i64> = row.try_get("finished_at")?;
    let ended = counts.ended();
    let rate = match finished_at {
        Some(at) if ended >= total => rate(total, at - created_at),
        _ => rate(ended.saturating_sub(number("rate_ended")?), now - row.try_get::<i64, _>("rate_since")?),
    };
    let metadata: Option<String> = row.try_get("metadata")?;
    Ok(Batch {
        id: BatchId(row.try_get("id")?),
        sealed: row.try_get("sealed")?,
        total,
        counts: counts.of(total),
        rate,
        metadata: metadata.map(|text| raw("metadata", text)).transpose().map_err(Failure::from)?,
        follow_up: row.try_get::<Option<Uuid>, _>("follow_up_job")?.map(JobId),
        errors: Vec::new(),
        created_at: time(created_at)?,
        finished_at: optional_time(finished_at)?,
        read_at: time(now)?,
    })
}

/// Per second, from microseconds.
fn rate(ended: u64, micros: i64) -> f64 {
    ended as f64 / (micros.max(1000) as f64 / 1e6)
}
