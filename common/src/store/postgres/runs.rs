//! Fetching, claiming and declining queued rows.

use std::collections::HashMap;

use std::time::Duration;

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::{Line, Statement};
use super::intake::microseconds;
use super::rows::{candidate, candidate_columns, get, trail};
use crate::job::{JobId, Lease, Nonce, WorkerId};
use crate::store::{Candidate, Claim, Claimed, Pointer, Result};

/// The bounds let the plan leave out the partitions of other days before it looks for a single row.
pub(super) const FETCH: &str = concat!(
    "-- offload: fetch
SELECT ",
    candidate_columns!(),
    " FROM unnest($1::uuid[]) AS s (id) JOIN offload.jobs j ON j.id = s.id
WHERE j.id BETWEEN $2 AND $3"
);

/// Whether the worker `$1` is a member.
macro_rules! is_member {
    () => {
        "EXISTS (SELECT FROM offload.workers w WHERE w.id = $1 AND w.reaped_at IS NULL AND w.left_at IS NULL)"
    };
}

pub(super) use is_member;

pub(super) const CLAIM: &str = concat!(
    "-- offload: claim
UPDATE offload.jobs j
SET state = 'running', epoch = j.epoch + 1, attempt = j.attempt + 1, worker_id = $1, run_nonce = c.nonce, progress = NULL,
    started_at = statement_timestamp() - c.running_for * interval '1 microsecond',
    trail = ",
    trail!("'running'", at: "statement_timestamp() - c.running_for * interval '1 microsecond'", run_at: "NULL"),
    "
FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[]) AS c (id, epoch, nonce, running_for)
WHERE j.id = c.id AND j.id BETWEEN $6 AND $7 AND j.epoch = c.epoch AND j.state = 'queued' AND ",
    is_member!(),
    "
RETURNING j.id, j.epoch, j.run_nonce"
);

/// What was not granted: the membership is over; or an earlier try has claimed it; or the row has moved on. One row at least,
/// which says which.
pub(super) const REFUSED: &str = concat!(
    "-- offload: claims that were not granted
SELECT m.is_member, held.id, held.epoch, held.run_nonce
FROM (SELECT ",
    is_member!(),
    " AS is_member) m LEFT JOIN (
    SELECT j.id, j.epoch, j.run_nonce
    FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS c (id, epoch, nonce) JOIN offload.jobs j ON j.id = c.id
    WHERE j.id BETWEEN $5 AND $6 AND j.epoch = c.epoch + 1 AND j.run_nonce = c.nonce AND j.state = 'running'
      AND j.worker_id = $1) held ON m.is_member"
);

pub(super) const DECLINE: &str = concat!(
    "-- offload: decline
UPDATE offload.jobs j
SET state = 'scheduled', epoch = j.epoch + 1, run_at = statement_timestamp() + $3 * interval '1 microsecond',
    trail = ",
    trail!("'scheduled'", at: "statement_timestamp()", run_at: "statement_timestamp() + $3 * interval '1 microsecond'"),
    "
FROM unnest($1::uuid[], $2::bigint[]) AS p (id, epoch)
WHERE j.id = p.id AND j.id BETWEEN $4 AND $5 AND j.epoch = p.epoch AND j.state = 'queued'"
);

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
pub(super) async fn claim(line: &mut Line, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>> {
    let mut sorted: Vec<&Claim> = claims.iter().collect();
    sorted.sort_unstable_by_key(|claim| claim.job);
    let running_for: Vec<i64> = sorted.iter().map(|claim| microseconds(claim.running_for)).collect();
    let (least, greatest) = bounds(&ids(&sorted));
    let statement = bind(CLAIM, worker, &sorted).bind(running_for).bind(least).bind(greatest);
    let rows = line.rows(statement).await?;
    let mut granted = rows.iter().map(|row| lease(row, worker)).collect::<Result<HashMap<_, _>>>()?;

    sorted.retain(|claim| !granted.contains_key(&key(claim)));
    let mut refusal = Claimed::MovedOn;
    if !sorted.is_empty() {
        let (least, greatest) = bounds(&ids(&sorted));
        for row in &line.rows(bind(REFUSED, worker, &sorted).bind(least).bind(greatest)).await? {
            if !get::<bool>(row, "is_member")? {
                refusal = Claimed::NotAMember;
            }
            if get::<Option<Uuid>>(row, "id")?.is_some() {
                granted.extend([lease(row, worker)?]);
            }
        }
    }
    let answer = |claim| granted.get(&key(claim)).map_or(refusal, |lease| Claimed::Granted(*lease));
    Ok(claims.iter().map(answer).collect())
}

fn key(claim: &Claim) -> (Uuid, i64) {
    (claim.job.0, claim.nonce.0)
}

fn ids(claims: &[&Claim]) -> Vec<Uuid> {
    claims.iter().map(|claim| claim.job.0).collect()
}

/// Binds what [`CLAIM`] and [`REFUSED`] have in common.
fn bind(sql: &'static str, worker: WorkerId, claims: &[&Claim]) -> Statement<'static> {
    let epochs: Vec<i64> = claims.iter().map(|claim| claim.epoch).collect();
    let nonces: Vec<i64> = claims.iter().map(|claim| claim.nonce.0).collect();
    sqlx::query(sql).bind(worker.0).bind(ids(claims)).bind(epochs).bind(nonces)
}

/// The lease that a row shows, by the claim that it answers.
fn lease(row: &PgRow, worker: WorkerId) -> Result<((Uuid, i64), Lease)> {
    let (id, nonce, epoch) = (get(row, "id")?, get(row, "run_nonce")?, get(row, "epoch")?);
    Ok(((id, nonce), Lease { job: JobId(id), epoch, worker, nonce: Nonce(nonce), claimed: true }))
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
