//! Retention: what is past it goes, a bounded step at a time, so that nobody waits long for the writer.

use std::time::Duration;

use uuid::Uuid;

use super::error::Result;
use super::rows::{duration_micros, micros};
use super::writer::Writer;
use crate::clock;
use crate::job::FileId;
use crate::store::{Pruned, Retention};

/// Rows per transaction.
const STEP: u32 = 500;

pub(super) const JOBS: &str = "-- prune finished jobs, and their logs with them
DELETE FROM offload_jobs WHERE rowid IN
    (SELECT rowid FROM offload_jobs WHERE finished_at IS NOT NULL AND finished_at <= ?1 ORDER BY finished_at LIMIT ?2)
RETURNING id";

/// Not one whose jobs run again.
const BATCHES: &str = "-- prune batches
DELETE FROM offload_batches WHERE id IN
    (SELECT id FROM offload_batches WHERE finished_at IS NOT NULL AND finished_at <= ?1
        AND succeeded + failed + cancelled >= total ORDER BY finished_at LIMIT ?2)
RETURNING id";

/// As long as the job that delivers it is there, it may be tried again, and needs its secret.
pub(super) const CALLBACKS: &str = "-- prune callbacks
DELETE FROM offload_callbacks WHERE subject IN
    (SELECT subject FROM offload_callbacks AS c WHERE fired_at IS NOT NULL AND fired_at <= ?1
        AND NOT EXISTS (SELECT 1 FROM offload_jobs AS j WHERE j.id = c.job_id) ORDER BY fired_at LIMIT ?2)
RETURNING subject";

const FILES: &str = "-- prune files
DELETE FROM offload_files WHERE rowid IN
    (SELECT rowid FROM offload_files WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)
RETURNING id";

const KEYS: &str = "-- prune idempotency keys
DELETE FROM offload_idempotency_keys WHERE (tenant, key) IN
    (SELECT tenant, key FROM offload_idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)
RETURNING job_id";

/// What waits is kept while its schedule is there: it is to fire yet.
pub(super) const FIRES: &str = "-- prune records of fires
DELETE FROM offload_fires WHERE (schedule_id, fire_at) IN
    (SELECT schedule_id, fire_at FROM offload_fires AS f WHERE recorded_at <= ?1
        AND (outcome <> 'waiting' OR NOT EXISTS (SELECT 1 FROM offload_schedules AS s WHERE s.id = f.schedule_id))
    ORDER BY recorded_at LIMIT ?2)
RETURNING schedule_id";

/// See [`crate::store::Store::prune`].
pub(super) async fn prune(writer: &Writer, retention: &Retention) -> Result<Pruned> {
    let jobs = delete(writer, JOBS, retention.jobs).await?;
    delete(writer, FIRES, retention.jobs).await?;
    delete(writer, BATCHES, retention.jobs).await?;
    delete(writer, CALLBACKS, retention.jobs).await?;
    let keys = delete(writer, KEYS, retention.idempotency_keys).await?;
    // Last, so that no later failure keeps the caller from learning which contents to delete.
    let files = delete(writer, FILES, retention.files).await?;
    Ok(Pruned {
        jobs: jobs.len() as u64,
        files: files.into_iter().map(FileId).collect(),
        idempotency_keys: keys.len() as u64,
    })
}

/// Deletes what is older than this, and answers the ids. A failure after the first step only ends it early.
async fn delete(writer: &Writer, sql: &'static str, older_than: Duration) -> Result<Vec<Uuid>> {
    let before = micros(clock::now()).saturating_sub(duration_micros(older_than));
    let mut deleted = Vec::new();
    loop {
        match delete_some(writer, sql, before).await {
            Ok(ids) if ids.len() == STEP as usize => deleted.extend(ids),
            Ok(ids) => {
                deleted.extend(ids);
                return Ok(deleted);
            }
            Err(failure) if deleted.is_empty() => return Err(failure),
            Err(_) => return Ok(deleted),
        }
    }
}

async fn delete_some(writer: &Writer, sql: &'static str, before: i64) -> Result<Vec<Uuid>> {
    let mut turn = writer.turn().await?;
    let ids = sqlx::query_scalar(sql).bind(before).bind(STEP).fetch_all(turn.connection()).await?;
    turn.commit().await?;
    Ok(ids)
}
