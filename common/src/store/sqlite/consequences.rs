//! What follows from the end of a linked job, in the transaction that ends it. [`super::moves::apply`] is the one place that
//! ends jobs, and calls this.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::error::Result;
use super::intake;
use super::rows::micros;
use super::{callbacks, chains};
use crate::job::{JobId, JobPlan, State};
use crate::store::row::json;

/// The rate is that of the time between the mark before the last and now.
pub(super) const COUNT: &str = "-- count the end of a job of a batch
UPDATE offload_batches
SET succeeded = succeeded + (?2 = 'succeeded'), failed = failed + (?2 = 'failed'), cancelled = cancelled + (?2 = 'cancelled'),
    rate_since = CASE WHEN mark_at < ?3 - 10000000 THEN mark_at ELSE rate_since END,
    rate_ended = CASE WHEN mark_at < ?3 - 10000000 THEN mark_ended ELSE rate_ended END,
    mark_ended = CASE WHEN mark_at < ?3 - 10000000 THEN succeeded + failed + cancelled ELSE mark_ended END,
    mark_at = CASE WHEN mark_at < ?3 - 10000000 THEN ?3 ELSE mark_at END
WHERE id = (SELECT batch_id FROM offload_jobs WHERE id = ?1)
RETURNING id, sealed AND finished_at IS NULL AND succeeded + failed + cancelled >= total AS over";

/// The first time that all are final happens once.
const CLOSE: &str = "-- finish a batch
UPDATE offload_batches SET finished_at = ?2
WHERE id = ?1 AND sealed AND finished_at IS NULL AND succeeded + failed + cancelled >= total
RETURNING tenant, follow_up";

const FOLLOWED: &str = "-- a batch was followed by a job
UPDATE offload_batches SET follow_up_job = ?2 WHERE id = ?1";

/// Follows up on a linked job that this very transaction ended.
pub(super) async fn follow(connection: &mut SqliteConnection, job: JobId, to: State, now: DateTime<Utc>) -> Result<()> {
    callbacks::of_job(connection, job, now).await?;
    chains::ended(connection, job).await?;
    let count = sqlx::query(COUNT).bind(job.0).bind(to.as_str()).bind(micros(now));
    match count.fetch_optional(&mut *connection).await? {
        Some(row) if row.try_get("over")? => close(connection, row.try_get("id")?, now).await,
        _ => Ok(()),
    }
}

/// Finishes a batch if it is to be, once, with what follows.
pub(super) async fn close(connection: &mut SqliteConnection, batch: Uuid, now: DateTime<Utc>) -> Result<()> {
    let closed = sqlx::query(CLOSE).bind(batch).bind(micros(now)).fetch_optional(&mut *connection).await?;
    let Some(row) = closed else { return Ok(()) };
    callbacks::of_batch(connection, batch, now).await?;
    let Some(plan) = row.try_get::<Option<&str>, _>("follow_up")? else { return Ok(()) };
    let job = json::<JobPlan>("follow_up", plan)?.job(row.try_get("tenant")?);
    intake::insert(connection, &job, now).await?;
    sqlx::query(FOLLOWED).bind(batch).bind(job.id.0).execute(connection).await?;
    Ok(())
}
