//! Fetching, claiming and declining queued rows.

use std::collections::HashMap;

use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::intake::microseconds;
use super::rows::{candidate, candidate_columns, get};
use crate::job::{JobId, Lease, Nonce, WorkerId};
use crate::store::{Candidate, Claim, Pointer, Result};

/// The bounds let the plan leave out the partitions of other days before it looks for a single row.
pub(super) const FETCH: &str = concat!(
    "-- offload: fetch
SELECT ",
    candidate_columns!(),
    " FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id
WHERE j.id BETWEEN $2 AND $3"
);

pub(super) const CLAIM: &str = "-- offload: claim
UPDATE offload.jobs j
SET state = 'running', epoch = j.epoch + 1, attempt = j.attempt + 1, worker_id = $1, run_nonce = c.nonce, progress = NULL,
    started_at = statement_timestamp() - c.running_for * interval '1 microsecond'
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[]) AS c (id, epoch, nonce, running_for)
WHERE j.id = c.id AND j.id BETWEEN $6 AND $7 AND j.epoch = c.epoch AND j.state = 'queued'
RETURNING j.id, j.epoch, j.run_nonce";

/// An earlier try may have claimed what this one did not find `queued`.
pub(super) const CLAIMED: &str = "-- offload: claims whose reply was lost
SELECT j.id, j.epoch, j.run_nonce
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS c (id, epoch, nonce) JOIN offload.jobs j ON j.id = c.id
WHERE j.id BETWEEN $5 AND $6 AND j.epoch = c.epoch + 1 AND j.run_nonce = c.nonce AND j.state = 'running'
  AND j.worker_id = $1";

pub(super) const DECLINE: &str = "-- offload: decline
UPDATE offload.jobs j
SET state = 'scheduled', epoch = j.epoch + 1, run_at = statement_timestamp() + $3 * interval '1 microsecond'
FROM unnest($1::uuid[], $2::bigint[]) AS p (id, epoch)
WHERE j.id = p.id AND j.id BETWEEN $4 AND $5 AND j.epoch = p.epoch AND j.state = 'queued'";

/// The least and the greatest of some ids.
pub(super) fn bounds(ids: &[Uuid]) -> (Uuid, Uuid) {
    let least = ids.iter().min().copied().unwrap_or(Uuid::max());
    (least, ids.iter().max().copied().unwrap_or(Uuid::nil()))
}

/// Reads candidates; see [`crate::store::Store::fetch`].
pub(super) async fn fetch(line: &mut Line, ids: &[JobId]) -> Result<Vec<Option<Candidate>>> {
    let mut wanted: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let (least, greatest) = bounds(&wanted);
    let rows = line.rows(sqlx::query(FETCH).bind(wanted).bind(least).bind(greatest)).await?;
    let found = rows.iter().map(|row| Ok((get(row, "id")?, row))).collect::<Result<HashMap<Uuid, &PgRow>>>()?;
    ids.iter().map(|id| found.get(&id.0).map(|row| candidate(row)).transpose()).collect()
}

/// Claims rows; see [`crate::store::Store::claim`]. The rows are taken in the order of their ids, as everywhere, so that
/// no two statements wait for each other.
pub(super) async fn claim(line: &mut Line, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Option<Lease>>> {
    let mut granted = grant(line, CLAIM, worker, claims.iter().collect()).await?;
    let missing: Vec<&Claim> = claims.iter().filter(|claim| !granted.contains_key(&key(claim))).collect();
    if !missing.is_empty() {
        granted.extend(grant(line, CLAIMED, worker, missing).await?);
    }
    Ok(claims.iter().map(|claim| granted.get(&key(claim)).copied()).collect())
}

fn key(claim: &Claim) -> (Uuid, i64) {
    (claim.job.0, claim.nonce.0)
}

/// Runs [`CLAIM`] or [`CLAIMED`], and gathers the leases that it answers.
async fn grant(
    line: &mut Line,
    sql: &'static str,
    worker: WorkerId,
    mut claims: Vec<&Claim>,
) -> Result<HashMap<(Uuid, i64), Lease>> {
    claims.sort_unstable_by_key(|claim| claim.job);
    let ids: Vec<Uuid> = claims.iter().map(|claim| claim.job.0).collect();
    let (least, greatest) = bounds(&ids);
    let mut statement = sqlx::query(sql)
        .bind(worker.0)
        .bind(ids)
        .bind(claims.iter().map(|claim| claim.epoch).collect::<Vec<_>>())
        .bind(claims.iter().map(|claim| claim.nonce.0).collect::<Vec<_>>());
    if sql == CLAIM {
        statement = statement.bind(claims.iter().map(|claim| microseconds(claim.running_for)).collect::<Vec<_>>());
    }
    let rows = line.rows(statement.bind(least).bind(greatest)).await?;
    let lease = |row: &PgRow| {
        let (id, nonce) = (get(row, "id")?, get(row, "run_nonce")?);
        let epoch = get(row, "epoch")?;
        Ok(((id, nonce), Lease { job: JobId(id), epoch, worker, nonce: Nonce(nonce), claimed: true }))
    };
    rows.iter().map(lease).collect()
}

/// Moves queued rows back to `scheduled`; see [`crate::store::Store::decline`].
pub(super) async fn decline(line: &mut Line, pointers: &[Pointer], delay: Duration) -> Result<()> {
    let mut pointers = pointers.to_vec();
    pointers.sort_unstable_by_key(|pointer| pointer.id);
    let ids: Vec<Uuid> = pointers.iter().map(|pointer| pointer.id.0).collect();
    let (least, greatest) = bounds(&ids);
    let epochs: Vec<i64> = pointers.iter().map(|pointer| pointer.epoch).collect();
    let statement = sqlx::query(DECLINE).bind(ids).bind(epochs).bind(microseconds(delay)).bind(least).bind(greatest);
    line.execute(statement).await.map(drop)
}
