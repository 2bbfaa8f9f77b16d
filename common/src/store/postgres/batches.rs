//! Batches as they are read, sealed, cancelled and repeated.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::intake::FIRST_EPOCH;
use super::rows::get;
use super::{PostgresStore, consequences, fill, reads};
use crate::job::{BatchId, JobId};
use crate::store::row::{json, raw};
use crate::store::{
    Batch, BatchFilter, Batches, Cancelled, CancelledPage, Counts, Failed, Filled, Filling, Pages, Result,
};

/// What is counted here is few: what workers hold, and what is due later.
macro_rules! batches {
    ($which:literal) => {
        concat!(
            "-- offload: batches
WITH running AS MATERIALIZED (
    SELECT j.batch_id FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id > '00000000-0000-0000-0000-000000000000'
)
SELECT b.id, b.sealed, b.total, b.succeeded, b.failed, b.cancelled, b.metadata::text, b.follow_up_job, b.created_at,
       b.finished_at, statement_timestamp() AS read_at,
       CASE WHEN b.succeeded + b.failed + b.cancelled >= b.total AND b.finished_at IS NOT NULL
            THEN b.total / greatest(extract(epoch FROM b.finished_at - b.created_at), 0.001)
            ELSE (b.succeeded + b.failed + b.cancelled - b.rate_ended)
                / greatest(extract(epoch FROM statement_timestamp() - b.rate_since), 0.001) END::float8 AS rate,
       (SELECT count(*) FROM running r WHERE r.batch_id = b.id) AS running,
       (SELECT count(*) FROM offload.jobs j WHERE j.batch_id = b.id AND j.state = 'scheduled'
           AND j.run_at > statement_timestamp()) AS scheduled
FROM offload.batches b WHERE ",
            $which
        )
    };
}

pub(super) const BATCH: &str = batches!("b.id = $1 AND b.tenant = $2");

pub(super) const BATCHES: &str = batches!(
    "b.tenant = $1 AND b.id < $2 AND ($3::boolean IS NULL OR (b.finished_at IS NOT NULL) = $3)
ORDER BY b.id DESC LIMIT $4"
);

pub(super) const ERRORS: &str = "-- offload: the first failed jobs of a batch
SELECT j.id, j.error::text FROM offload.jobs j WHERE j.batch_id = $1 AND j.state = 'failed' ORDER BY j.id LIMIT 10";

pub(super) const SEAL: &str =
    "-- offload: seal a batch\nUPDATE offload.batches SET sealed = true WHERE id = $1 AND tenant = $2";

/// In the order of their ids, as everywhere.
pub(super) const UNFINISHED: &str = "-- offload: jobs of a batch that are not final
SELECT j.id FROM offload.jobs j
WHERE j.batch_id = $1 AND j.id > $2 AND j.state IN ('scheduled', 'queued', 'running')
ORDER BY j.id LIMIT $3 FOR UPDATE";

/// One that has been repeated is linked no more. One whose unique key a live job has can be repeated when that has ended.
pub(super) const FAILED: &str = "-- offload: failed jobs of a batch that are to be repeated
SELECT j.id FROM offload.jobs j JOIN offload.batches b ON b.id = j.batch_id
WHERE j.batch_id = $1 AND b.tenant = $2 AND j.state = 'failed' AND j.linked
  AND NOT EXISTS (SELECT FROM offload.unique_keys k WHERE k.tenant = j.tenant AND k.kind = j.kind AND k.key = j.unique_key)
ORDER BY j.id LIMIT $3 FOR UPDATE OF j";

/// Of several with one key, and of those whose key was taken meanwhile, none but the first is repeated.
pub(super) const KEYS: &str = "-- offload: take the unique keys of jobs that are repeated
WITH wanted AS (
    SELECT DISTINCT ON (j.tenant COLLATE \"C\", j.kind COLLATE \"C\", j.unique_key COLLATE \"C\")
           n.old, n.new, j.tenant, j.kind, j.unique_key
    FROM unnest($1::uuid[], $2::uuid[]) AS n (old, new) JOIN offload.jobs j ON j.id = n.old
    WHERE j.unique_key IS NOT NULL
    ORDER BY j.tenant COLLATE \"C\", j.kind COLLATE \"C\", j.unique_key COLLATE \"C\", n.old
), taken AS (
    INSERT INTO offload.unique_keys (tenant, kind, key, job_id)
    SELECT w.tenant, w.kind, w.unique_key, w.new FROM wanted w
    ON CONFLICT (tenant, kind, key) DO NOTHING
    RETURNING job_id
)
SELECT n.old, n.new FROM unnest($1::uuid[], $2::uuid[]) AS n (old, new) JOIN offload.jobs j ON j.id = n.old
WHERE j.unique_key IS NULL OR n.new IN (SELECT job_id FROM taken)";

pub(super) const REPEAT: &str = "-- offload: repeat failed jobs of a batch
WITH repeated AS (
    UPDATE offload.jobs j SET linked = false WHERE j.id = ANY ($1)
), inserted AS (
    INSERT INTO offload.jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, timeout_ms,
                              retry_policy, payload, metadata, tags, traceparent, retry_of, batch_id, linked, unique_key)
    SELECT n.new, j.tenant, j.kind, j.queue, j.priority, 'scheduled', $3, j.max_attempts, statement_timestamp(),
           statement_timestamp(), j.timeout_ms, j.retry_policy, j.payload, j.metadata, j.tags, j.traceparent, j.id, j.batch_id,
           true, j.unique_key
    FROM unnest($1::uuid[], $2::uuid[]) AS n (old, new) JOIN offload.jobs j ON j.id = n.old
)
UPDATE offload.batches SET total = total + cardinality($1) WHERE id = $4";

#[async_trait]
impl Batches for PostgresStore {
    async fn fill_batch(&self, filling: &Filling, jobs: &mut dyn Pages) -> Result<Filled> {
        fill::fill(&mut *self.patient().await?, filling, jobs).await
    }

    async fn batch(&self, tenant: &str, id: BatchId) -> Result<Option<Batch>> {
        let mut line = self.patient().await?;
        let Some(row) = line.row(sqlx::query(BATCH).bind(id.0).bind(tenant)).await? else { return Ok(None) };
        let rows = line.rows(sqlx::query(ERRORS).bind(id.0)).await?;
        let errors = rows.iter().map(failed).collect::<Result<_>>()?;
        Ok(Some(Batch { errors, ..batch(&row)? }))
    }

    async fn batches(&self, filter: &BatchFilter) -> Result<Vec<Batch>> {
        let list = sqlx::query(BATCHES)
            .bind(filter.tenant.as_str())
            .bind(filter.before.map_or(Uuid::max(), |id| id.0))
            .bind(filter.finished)
            .bind(i64::from(filter.limit));
        self.patient().await?.rows(list).await?.iter().map(batch).collect()
    }

    async fn seal_batch(&self, tenant: &str, id: BatchId) -> Result<bool> {
        let mut line = self.patient().await?;
        line.begin("BEGIN").await?;
        let found = line.execute(sqlx::query(SEAL).bind(id.0).bind(tenant)).await? == 1;
        if found {
            consequences::close(&mut line, vec![id.0]).await?;
        }
        line.commit().await?;
        Ok(found)
    }

    async fn cancel_batch(&self, id: BatchId, after: Option<JobId>, limit: u32) -> Result<CancelledPage> {
        let mut line = self.patient().await?;
        line.begin("BEGIN").await?;
        let page = cancel(&mut line, id, after, limit).await?;
        line.commit().await?;
        Ok(page)
    }

    async fn retry_batch(&self, tenant: &str, id: BatchId, limit: u32) -> Result<u64> {
        let mut line = self.patient().await?;
        line.begin("BEGIN").await?;
        let failed = sqlx::query(FAILED).bind(id.0).bind(tenant).bind(i64::from(limit));
        let failed = ids(&line.rows(failed).await?)?;
        let new: Vec<Uuid> = failed.iter().map(|_| JobId::new().0).collect();
        let rows = line.rows(sqlx::query(KEYS).bind(failed).bind(new)).await?;
        let repeated = rows.len() as u64;
        if repeated > 0 {
            let column = |name| rows.iter().map(|row| get(row, name)).collect::<Result<Vec<Uuid>>>();
            let (failed, new) = (column("old")?, column("new")?);
            line.execute(sqlx::query(REPEAT).bind(failed).bind(new).bind(FIRST_EPOCH).bind(id.0)).await?;
        }
        line.commit().await?;
        Ok(repeated)
    }
}

async fn cancel(line: &mut Line, id: BatchId, after: Option<JobId>, limit: u32) -> Result<CancelledPage> {
    let after = after.map_or(Uuid::nil(), |id| id.0);
    let found = ids(&line.rows(sqlx::query(UNFINISHED).bind(id.0).bind(after).bind(i64::from(limit))).await?)?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|id| JobId(*id));
    Ok(CancelledPage { next, ..cancel_these(line, found).await? })
}

/// Cancels all jobs of these batches, in a transaction that is open: their rows are locked before those of any batch.
pub(super) async fn cancel_whole(line: &mut Line, batches: impl IntoIterator<Item = BatchId>) -> Result<CancelledPage> {
    let mut found = Vec::new();
    for id in batches {
        let unfinished = sqlx::query(UNFINISHED).bind(id.0).bind(Uuid::nil()).bind(i64::MAX);
        found.extend(ids(&line.rows(unfinished).await?)?);
    }
    cancel_these(line, found).await
}

async fn cancel_these(line: &mut Line, jobs: Vec<Uuid>) -> Result<CancelledPage> {
    let mut page = CancelledPage::default();
    if jobs.is_empty() {
        return Ok(page);
    }
    for (job, cancelled) in reads::cancel_all(line, jobs).await? {
        match cancelled {
            Cancelled::Now => page.ended.push(job),
            Cancelled::Requested => page.requested.push(job),
            Cancelled::TooLate(_) => {}
        }
    }
    Ok(page)
}

fn ids(rows: &[PgRow]) -> Result<Vec<Uuid>> {
    rows.iter().map(|row| get(row, "id")).collect()
}

fn batch(row: &PgRow) -> Result<Batch> {
    let number = |column| get::<i64>(row, column).map(i64::unsigned_abs);
    let total = number("total")?;
    let counts = Counts {
        scheduled: number("scheduled")?,
        queued: 0,
        running: number("running")?,
        succeeded: number("succeeded")?,
        failed: number("failed")?,
        cancelled: number("cancelled")?,
    };
    let metadata: Option<String> = get(row, "metadata")?;
    Ok(Batch {
        id: BatchId(get(row, "id")?),
        sealed: get(row, "sealed")?,
        total,
        counts: counts.of(total),
        rate: get(row, "rate")?,
        metadata: metadata.map(|text| raw("metadata", text)).transpose()?,
        follow_up: get::<Option<_>>(row, "follow_up_job")?.map(JobId),
        errors: Vec::new(),
        created_at: get(row, "created_at")?,
        finished_at: get(row, "finished_at")?,
        read_at: get(row, "read_at")?,
    })
}

fn failed(row: &PgRow) -> Result<Failed> {
    let error: Option<&str> = get(row, "error")?;
    Ok(Failed { job: JobId(get(row, "id")?), error: error.map(|text| json("error", text)).transpose()? })
}
