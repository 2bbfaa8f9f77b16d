//! Callbacks: kept with what they tell of, and turned into jobs when that ends.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::error::Result;
use super::intake;
use super::rows::{job, job_columns, micros, optional_time, time};
use crate::callback::{self, BatchEnd, Callback};
use crate::clock;
use crate::job::{JobId, NewJob};
use crate::store::audit::CallbackUse;
use crate::store::row::{json, raw};

const KEEP: &str = "-- keep a callback
INSERT INTO offload_callbacks (subject, tenant, callback) VALUES (?1, ?2, ?3)";

pub(super) const CALLBACK: &str = "-- read a callback
SELECT callback FROM offload_callbacks WHERE subject = ?1 AND tenant = ?2";

pub(super) const WAITING: &str = "-- read a callback that is to be fired
SELECT callback FROM offload_callbacks WHERE subject = ?1 AND fired_at IS NULL";

const JOB: &str = concat!("-- read a job that has ended\nSELECT ", job_columns!(), " FROM offload_jobs WHERE id = ?1");

const BATCH: &str = "-- read a batch that is finished
SELECT * FROM offload_batches WHERE id = ?1";

/// Once and for all.
const FIRED: &str = "-- a callback is fired
UPDATE offload_callbacks SET fired_at = ?2, job_id = ?3 WHERE subject = ?1";

/// Nothing of the secret is read.
const AUDIT: &str = "-- audit, callbacks
SELECT c.subject, j.id IS NULL AND b.id IS NULL AS gone, c.callback -> 'events' AS events, c.job_id, d.kind, c.fired_at,
    CASE WHEN j.state IN ('succeeded', 'failed', 'cancelled') THEN json_quote('job.' || j.state)
         WHEN b.finished_at IS NOT NULL THEN json_quote('batch.finished') END AS \"end\"
FROM (SELECT * FROM offload_callbacks WHERE subject > ?1 ORDER BY subject LIMIT ?2) AS c
LEFT JOIN offload_jobs AS j ON j.id = c.subject LEFT JOIN offload_batches AS b ON b.id = c.subject
LEFT JOIN offload_jobs AS d ON d.id = c.job_id
ORDER BY c.subject";

/// Keeps a callback, within the transaction that inserts what it tells of.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    subject: Uuid,
    tenant: &str,
    callback: &Callback,
) -> Result<()> {
    let text = serde_json::to_string(callback)?;
    sqlx::query(KEEP).bind(subject).bind(tenant).bind(text).execute(connection).await?;
    Ok(())
}

/// Reads one; see [`crate::store::Store::callback`].
pub(super) async fn read(readers: &SqlitePool, tenant: &str, subject: Uuid) -> Result<Option<Callback>> {
    let row = sqlx::query(CALLBACK).bind(subject).bind(tenant).fetch_optional(readers).await?;
    row.map(|row| callback(&row)).transpose()
}

/// What the auditor sees of them; see [`crate::store::audit::Audit::callbacks`].
pub(super) async fn used(readers: &SqlitePool, after: Option<Uuid>, limit: u32) -> Result<Vec<CallbackUse>> {
    let now = clock::now();
    let used = |row: &SqliteRow| {
        let fired = optional_time(row.try_get("fired_at")?)?;
        let end: Option<&str> = row.try_get("end")?;
        Ok(CallbackUse {
            subject: row.try_get("subject")?,
            end: end.map(|text| json("end", text)).transpose()?,
            gone: row.try_get("gone")?,
            events: json("events", row.try_get("events")?)?,
            fired: fired.map(|at| (now - at).to_std().unwrap_or_default()),
            job: row.try_get::<Option<Uuid>, _>("job_id")?.map(JobId),
            kind: row.try_get("kind")?,
        })
    };
    let rows = sqlx::query(AUDIT).bind(after.unwrap_or_default()).bind(limit).fetch_all(readers).await?;
    rows.iter().map(used).collect()
}

/// Tells of a linked job that this very transaction ended.
pub(super) async fn of_job(connection: &mut SqliteConnection, ended: JobId, now: DateTime<Utc>) -> Result<()> {
    let Some(callback) = waiting(connection, ended.0).await? else { return Ok(()) };
    let row = sqlx::query(JOB).bind(ended.0).fetch_one(&mut *connection).await?;
    let new = callback::of_job(&callback, &job(&row, micros(now))?)?;
    fire(connection, ended.0, new, now).await
}

/// Tells of a batch that this very transaction finished.
pub(super) async fn of_batch(connection: &mut SqliteConnection, batch: Uuid, now: DateTime<Utc>) -> Result<()> {
    let Some(callback) = waiting(connection, batch).await? else { return Ok(()) };
    let row = sqlx::query(BATCH).bind(batch).fetch_one(&mut *connection).await?;
    let metadata: Option<String> = row.try_get("metadata")?;
    let end = BatchEnd {
        id: batch,
        total: row.try_get("total")?,
        counts: callback::Ends {
            succeeded: row.try_get("succeeded")?,
            failed: row.try_get("failed")?,
            cancelled: row.try_get("cancelled")?,
        },
        metadata: metadata.map(|text| raw("metadata", text)).transpose()?,
        created_at: time(row.try_get("created_at")?)?,
        finished_at: now,
    };
    let new = callback::of_batch(&callback, row.try_get("tenant")?, &end)?;
    fire(connection, batch, new, now).await
}

async fn waiting(connection: &mut SqliteConnection, subject: Uuid) -> Result<Option<Callback>> {
    let row = sqlx::query(WAITING).bind(subject).fetch_optional(connection).await?;
    row.map(|row| callback(&row)).transpose()
}

/// One whose event is not asked for is fired without a job.
async fn fire(connection: &mut SqliteConnection, subject: Uuid, job: Option<NewJob>, now: DateTime<Utc>) -> Result<()> {
    let id = job.as_ref().map(|job| job.id.0);
    sqlx::query(FIRED).bind(subject).bind(micros(now)).bind(id).execute(&mut *connection).await?;
    if let Some(job) = job {
        intake::insert(connection, &job, now).await?;
    }
    Ok(())
}

fn callback(row: &SqliteRow) -> Result<Callback> {
    Ok(json("callback", row.try_get("callback")?)?)
}
