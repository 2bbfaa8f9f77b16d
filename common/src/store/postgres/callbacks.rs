//! Callbacks: kept with what they tell of, and turned into jobs when that ends.

use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::intake;
use super::rows::{get, job, job_columns};
use super::runs::bounds;
use crate::callback::{self, BatchEnd, Callback};
use crate::job::{JobId, NewJob};
use crate::store::audit::CallbackUse;
use crate::store::row::json;
use crate::store::{Accepted, Error, Result};

pub(super) const KEEP: &str = "-- offload: keep callbacks
INSERT INTO offload.callbacks (subject, tenant, callback)
SELECT s.subject, s.tenant, s.callback::json FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s (subject, tenant, callback)";

pub(super) const CALLBACK: &str = "-- offload: a callback
SELECT c.callback::text FROM offload.callbacks c WHERE c.subject = $1 AND c.tenant = $2";

/// Locked in the order of their ids, as everything.
pub(super) const OF_JOBS: &str = concat!(
    "-- offload: callbacks of jobs that have ended
SELECT c.callback::text, ",
    job_columns!(),
    "
FROM unnest($1::uuid[]) AS s (id) JOIN offload.callbacks c ON c.subject = s.id JOIN offload.jobs j ON j.id = s.id
WHERE j.id BETWEEN $2 AND $3 AND c.fired_at IS NULL
ORDER BY c.subject FOR UPDATE OF c"
);

pub(super) const OF_BATCH: &str = "-- offload: the callback of a batch that is finished
SELECT c.callback::text, b.tenant, b.total, b.succeeded, b.failed, b.cancelled, b.metadata::text, b.created_at, b.finished_at
FROM offload.callbacks c JOIN offload.batches b ON b.id = c.subject
WHERE c.subject = $1 AND c.fired_at IS NULL FOR UPDATE OF c";

/// Once and for all.
pub(super) const FIRED: &str = "-- offload: callbacks are fired
UPDATE offload.callbacks c SET fired_at = statement_timestamp(), job_id = f.job
FROM unnest($1::uuid[], $2::uuid[]) AS f (subject, job)
WHERE c.subject = f.subject";

/// Nothing of the secret is read.
pub(super) const AUDIT: &str = "-- offload: audit, callbacks
SELECT c.subject, j.id IS NULL AND b.id IS NULL AS gone, (c.callback -> 'events')::text AS events, c.job_id, d.kind,
       (extract(epoch FROM statement_timestamp() - c.fired_at) * 1000000)::bigint AS fired,
       CASE WHEN j.state IN ('succeeded', 'failed', 'cancelled') THEN to_json('job.' || j.state)::text
            WHEN b.finished_at IS NOT NULL THEN to_json('batch.finished'::text)::text END AS \"end\"
FROM (SELECT * FROM offload.callbacks WHERE subject > $1 ORDER BY subject LIMIT $2) c
LEFT JOIN offload.jobs j ON j.id = c.subject LEFT JOIN offload.batches b ON b.id = c.subject
LEFT JOIN offload.jobs d ON d.id = c.job_id
ORDER BY c.subject";

/// Keeps callbacks, within the transaction that inserts what they tell of.
pub(super) async fn keep<'a>(
    line: &mut Line,
    callbacks: impl Iterator<Item = (Uuid, &'a str, &'a Callback)>,
) -> Result<()> {
    let (mut subjects, mut tenants, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (subject, tenant, callback) in callbacks {
        subjects.push(subject);
        tenants.push(tenant);
        texts.push(serde_json::json!(callback).to_string());
    }
    if subjects.is_empty() {
        return Ok(());
    }
    line.execute(sqlx::query(KEEP).bind(subjects).bind(tenants).bind(texts)).await.map(drop)
}

/// The same for jobs; those without a callback are left out.
pub(super) async fn keep_of_jobs<'a>(line: &mut Line, jobs: impl Iterator<Item = &'a NewJob>) -> Result<()> {
    let callback = |job: &'a NewJob| Some((job.id.0, job.tenant.as_str(), job.callback.as_ref()?));
    keep(line, jobs.filter_map(callback)).await
}

/// Reads one; see [`crate::store::Store::callback`].
pub(super) async fn read(line: &mut Line, tenant: &str, subject: Uuid) -> Result<Option<Callback>> {
    let row = line.row(sqlx::query(CALLBACK).bind(subject).bind(tenant)).await?;
    row.map(|row| callback(&row)).transpose()
}

/// What the auditor sees of them; see [`crate::store::audit::Audit::callbacks`].
pub(super) async fn used(line: &mut Line, after: Option<Uuid>, limit: u32) -> Result<Vec<CallbackUse>> {
    let used = |row: &PgRow| {
        let fired = get::<Option<i64>>(row, "fired")?;
        Ok(CallbackUse {
            subject: get(row, "subject")?,
            end: get::<Option<&str>>(row, "end")?.map(|text| json("end", text)).transpose()?,
            gone: get(row, "gone")?,
            events: json("events", get(row, "events")?)?,
            fired: fired.map(|micros| Duration::from_micros(micros.max(0).unsigned_abs())),
            job: get::<Option<_>>(row, "job_id")?.map(JobId),
            kind: get(row, "kind")?,
        })
    };
    let list = sqlx::query(AUDIT).bind(after.unwrap_or_default()).bind(i64::from(limit));
    line.rows(list).await?.iter().map(used).collect()
}

/// Tells of linked jobs that this very transaction ended.
pub(super) async fn of_jobs(line: &mut Line, ended: &[Uuid]) -> Result<()> {
    let (least, greatest) = bounds(ended);
    let rows = line.rows(sqlx::query(OF_JOBS).bind(ended.to_vec()).bind(least).bind(greatest)).await?;
    let mut fired = Vec::with_capacity(rows.len());
    for row in &rows {
        let job = job(row)?;
        fired.push((job.id.0, callback::of_job(&callback(row)?, &job).map_err(unwritable)?));
    }
    fire(line, fired).await
}

/// Tells of a batch that this very transaction finished.
pub(super) async fn of_batch(line: &mut Line, batch: Uuid) -> Result<()> {
    let Some(row) = line.row(sqlx::query(OF_BATCH).bind(batch)).await? else { return Ok(()) };
    let metadata: Option<String> = get(&row, "metadata")?;
    let end = BatchEnd {
        id: batch,
        total: get(&row, "total")?,
        counts: callback::Ends {
            succeeded: get(&row, "succeeded")?,
            failed: get(&row, "failed")?,
            cancelled: get(&row, "cancelled")?,
        },
        metadata: metadata.map(|text| crate::store::row::raw("metadata", text)).transpose()?,
        created_at: get(&row, "created_at")?,
        finished_at: get(&row, "finished_at")?,
    };
    let job = callback::of_batch(&callback(&row)?, get(&row, "tenant")?, &end).map_err(unwritable)?;
    fire(line, vec![(batch, job)]).await
}

/// One whose event is not asked for is fired without a job.
async fn fire(line: &mut Line, fired: Vec<(Uuid, Option<NewJob>)>) -> Result<()> {
    if fired.is_empty() {
        return Ok(());
    }
    let subjects: Vec<Uuid> = fired.iter().map(|(subject, _)| *subject).collect();
    let ids: Vec<Option<Uuid>> = fired.iter().map(|(_, job)| job.as_ref().map(|job| job.id.0)).collect();
    line.execute(sqlx::query(FIRED).bind(subjects).bind(ids)).await?;
    let jobs: Vec<NewJob> = fired.into_iter().filter_map(|(_, job)| job).collect();
    if jobs.is_empty() {
        return Ok(());
    }
    match intake::write(line, &jobs.iter().collect::<Vec<_>>()).await? {
        accepted if accepted.iter().all(|accepted| matches!(accepted, Accepted::New { .. })) => Ok(()),
        other => Err(Error::Corrupt(format!("a callback's job was not accepted: {other:?}"))),
    }
}

fn callback(row: &PgRow) -> Result<Callback> {
    json("callback", get(row, "callback")?)
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Corrupt(format!("a callback cannot be written: {error}"))
}
