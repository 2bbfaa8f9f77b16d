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

const FILES: &str = "-- prune files
DELETE FROM offload_files WHERE rowid IN
    (SELECT rowid FROM offload_files WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)
RETURNING id";

const KEYS: &str = "-- prune idempotency keys
DELETE FROM offload_idempotency_keys WHERE (tenant, key) IN
    (SELECT tenant, key FROM offload_idempotency_keys WHERE created_at <= ?1 ORDER BY created_at LIMIT ?2)
RETURNING job_id";

/// See [`crate::store::Store::prune`].
pub(super) async fn prune(writer: &Writer, retention: &Retention) -> Result<Pruned> {
    let jobs = delete(writer, JOBS, retention.jobs).await?;
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
