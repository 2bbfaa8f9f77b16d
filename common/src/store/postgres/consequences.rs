//! What follows from the end of a linked job, in the transaction that ends it: the one place that every way to a final state
//! calls.
//!
//! Rows of jobs are locked before unique keys, these before rows of batches, and these in the order of their ids, so that no two transactions wait
//! for each other.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::rows::get;
use super::runs::bounds;
use super::{callbacks, chains, intake, unique};
use crate::job::{JobId, JobPlan};
use crate::store::row::json;
use crate::store::{Accepted, Error, Result};

/// The rate is that of the time between the mark before the last and now.
pub(super) const COUNT: &str = "-- offload: count the ends of batches
WITH ended AS MATERIALIZED (
    SELECT j.batch_id, count(*) AS jobs, count(*) FILTER (WHERE j.state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE j.state = 'failed') AS failed, count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled
    FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id
    WHERE j.id BETWEEN $2 AND $3 AND j.batch_id IS NOT NULL
    GROUP BY j.batch_id
), locked AS MATERIALIZED (
    SELECT b.id FROM offload.batches b WHERE b.id IN (SELECT batch_id FROM ended) ORDER BY b.id FOR UPDATE
)
UPDATE offload.batches b
SET succeeded = b.succeeded + e.succeeded, failed = b.failed + e.failed, cancelled = b.cancelled + e.cancelled,
    rate_since = CASE WHEN b.mark_at < statement_timestamp() - interval '10 seconds' THEN b.mark_at ELSE b.rate_since END,
    rate_ended = CASE WHEN b.mark_at < statement_timestamp() - interval '10 seconds' THEN b.mark_ended ELSE b.rate_ended END,
    mark_ended = CASE WHEN b.mark_at < statement_timestamp() - interval '10 seconds'
                      THEN b.succeeded + b.failed + b.cancelled ELSE b.mark_ended END,
    mark_at = CASE WHEN b.mark_at < statement_timestamp() - interval '10 seconds' THEN statement_timestamp() ELSE b.mark_at END
FROM ended e JOIN locked l ON l.id = e.batch_id
WHERE b.id = e.batch_id
RETURNING b.id, b.sealed AND b.finished_at IS NULL AND b.succeeded + b.failed + b.cancelled >= b.total AS over";

/// The first time that all are final happens once.
pub(super) const CLOSE: &str = "-- offload: finish batches
UPDATE offload.batches b SET finished_at = statement_timestamp()
WHERE b.id = ANY ($1) AND b.sealed AND b.finished_at IS NULL AND b.succeeded + b.failed + b.cancelled >= b.total
RETURNING b.id, b.tenant, b.follow_up::text";

pub(super) const FOLLOWED: &str = "-- offload: a batch was followed by a job
UPDATE offload.batches SET follow_up_job = $2 WHERE id = $1";

/// Follows up on linked jobs that this very transaction ended.
pub(super) async fn follow(line: &mut Line, ended: Vec<Uuid>) -> Result<()> {
    if ended.is_empty() {
        return Ok(());
    }
    unique::release(line, &ended).await?;
    callbacks::of_jobs(line, &ended).await?;
    chains::ended(line, &ended).await?;
    let (least, greatest) = bounds(&ended);
    let rows = line.rows(sqlx::query(COUNT).bind(ended).bind(least).bind(greatest)).await?;
    let over = |row: &PgRow| Ok(get::<bool>(row, "over")?.then_some(get(row, "id")?));
    let over = rows.iter().filter_map(|row| over(row).transpose()).collect::<Result<Vec<Uuid>>>()?;
    close(line, over).await
}

/// Finishes those of these batches that are to be, once each, with what follows.
pub(super) async fn close(line: &mut Line, mut batches: Vec<Uuid>) -> Result<()> {
    if batches.is_empty() {
        return Ok(());
    }
    batches.sort_unstable();
    for row in &line.rows(sqlx::query(CLOSE).bind(batches)).await? {
        callbacks::of_batch(line, get(row, "id")?).await?;
        let Some(plan) = get::<Option<&str>>(row, "follow_up")? else { continue };
        let job = json::<JobPlan>("follow_up", plan)?.job(get(row, "tenant")?);
        let id = accept(line, job).await?;
        line.execute(sqlx::query(FOLLOWED).bind(get::<Uuid>(row, "id")?).bind(id.0)).await?;
    }
    Ok(())
}

async fn accept(line: &mut Line, job: crate::job::NewJob) -> Result<JobId> {
    match intake::write(line, &[&job]).await?.as_slice() {
        [Accepted::New { .. }] => Ok(job.id),
        other => Err(Error::Corrupt(format!("a job that follows a batch was not accepted: {other:?}"))),
    }
}
