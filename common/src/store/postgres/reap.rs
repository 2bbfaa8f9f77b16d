//! Finding workers that are gone, and taking back what they ran.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::finish::finish;
use super::intake::microseconds;
use super::rows::{get, get_count, get_lane};
use crate::clock;
use crate::job::transition::{Decision, Event, Snapshot, decide};
use crate::job::{JobId, Lane, Lease, Nonce, State, WorkerId};
use crate::retry::RetryPolicy;
use crate::store::{Dispatch, Finish, Finished, Reaped, Result};

/// A worker's lock must have been free for this long: one that only lost its connection takes it again.
const FREE_FOR: Duration = Duration::from_secs(1);

/// The rows that one pass takes at most; the next pass takes the rest.
const PAGE: i64 = 1000;

/// Whether nobody holds the lock of worker `w`. A server that has just started tells nothing: every lock is free until its
/// owner has come back.
macro_rules! lock_is_free {
    () => {
        "(pg_postmaster_start_time() < statement_timestamp() - $1 / 2 * interval '1 microsecond'
     AND w.lock_key <> ALL (ARRAY(
        SELECT l.objid::bigint FROM pg_locks l
        WHERE l.locktype = 'advisory' AND l.classid = 16716973 AND l.objsubid = 2 AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))))"
    };
}

/// Whether worker `w` has not beaten for the lease, in microseconds.
macro_rules! is_silent {
    () => {
        "w.beat_at < statement_timestamp() - $1 * interval '1 microsecond'"
    };
}

pub(super) const SUSPECTS: &str = concat!(
    "-- offload: workers that may be gone
SELECT w.id, ",
    is_silent!(),
    " AS silent FROM offload.workers w
WHERE w.reaped_at IS NULL AND w.left_at IS NULL AND (",
    is_silent!(),
    " OR ",
    lock_is_free!(),
    ")"
);

/// Judged again as it is written: a worker that came back in between is left alone.
pub(super) const MARK: &str = concat!(
    "-- offload: mark workers that are gone
UPDATE offload.workers w SET reaped_at = statement_timestamp()
WHERE w.id = ANY ($2) AND w.reaped_at IS NULL AND w.left_at IS NULL AND (",
    is_silent!(),
    " OR ",
    lock_is_free!(),
    ") RETURNING w.id, w.application_name"
);

/// Frees what a half-dead process holds: row locks, and a transaction that will never commit.
pub(super) const TERMINATE: &str = "-- offload: close the connections of workers that are gone
SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a, unnest($1::text[]) AS i (instance)
WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()
  AND starts_with(a.application_name, i.instance || '/')";

/// One look into the index per worker that runs something, then its rows.
pub(super) const ORPHANS: &str = "-- offload: running jobs whose worker is gone
WITH RECURSIVE busy AS (
    (SELECT worker_id FROM offload.jobs WHERE state = 'running' ORDER BY worker_id LIMIT 1)
    UNION ALL
    SELECT next.* FROM busy b CROSS JOIN LATERAL (
        SELECT j.worker_id FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id > b.worker_id
        ORDER BY j.worker_id LIMIT 1) next
)
SELECT o.* FROM busy b CROSS JOIN LATERAL (
    SELECT j.id, j.queue, j.priority::text, j.epoch, j.attempt, j.max_attempts, j.losses, j.cancel_requested, j.worker_id,
           j.traceparent
    FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = b.worker_id LIMIT $1) o
WHERE NOT EXISTS (
    SELECT FROM offload.workers w WHERE w.id = b.worker_id AND w.reaped_at IS NULL AND w.left_at IS NULL)
LIMIT $1";

/// Since when which worker's lock has been seen free, without a break.
#[derive(Default)]
pub(super) struct Sightings(Mutex<HashMap<Uuid, Instant>>);

impl Sightings {
    /// Takes note of the locks that are free now; answers those that have been for long enough.
    fn see(&self, free: &[Uuid], now: Instant) -> Vec<Uuid> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|worker, _| free.contains(worker));
        let long_free = |worker: &&Uuid| now.duration_since(*since.entry(**worker).or_insert(now)) >= FREE_FOR;
        free.iter().filter(long_free).copied().collect()
    }
}

/// Workers that were newly found gone, and the names of their processes.
#[derive(Default)]
pub(super) struct Gone {
    pub(super) workers: Vec<WorkerId>,
    instances: Vec<String>,
}

/// Marks workers that are gone.
pub(super) async fn mark(line: &mut Line, sightings: &Sightings, lease: Duration) -> Result<Gone> {
    let lease = microseconds(lease);
    let rows = line.rows(sqlx::query(SUSPECTS).bind(lease)).await?;
    let (mut suspects, mut free) = (Vec::new(), Vec::new());
    for row in &rows {
        let list = if get(row, "silent")? { &mut suspects } else { &mut free };
        list.push(get::<Uuid>(row, "id")?);
    }
    suspects.extend(sightings.see(&free, clock::instant()));
    let mut gone = Gone::default();
    if suspects.is_empty() {
        return Ok(gone);
    }
    for row in &line.rows(sqlx::query(MARK).bind(lease).bind(suspects)).await? {
        gone.workers.push(WorkerId(get(row, "id")?));
        gone.instances.push(get(row, "application_name")?);
    }
    Ok(gone)
}

/// Closes the connections of processes that are gone. `own` is the name of this one: its former life may be among them,
/// but it lives on under another id, and with these connections.
pub(super) async fn terminate(line: &mut Line, gone: &Gone, own: &str) -> Result<()> {
    let instances: Vec<String> = gone.instances.iter().filter(|instance| *instance != own).cloned().collect();
    if !instances.is_empty() {
        line.rows(sqlx::query(TERMINATE).bind(instances)).await?;
    }
    Ok(())
}

/// A running row without a worker.
struct Orphan {
    lease: Lease,
    lane: Lane,
    snapshot: Snapshot,
    traceparent: Option<String>,
}

impl Orphan {
    fn read(row: &PgRow) -> Result<Self> {
        Ok(Self {
            lease: Lease {
                job: JobId(get(row, "id")?),
                epoch: get(row, "epoch")?,
                worker: WorkerId(get(row, "worker_id")?),
                // Not the lost run's: it must not take this write for its own.
                nonce: Nonce::new(),
                claimed: true,
            },
            lane: get_lane(row)?,
            snapshot: Snapshot {
                state: State::Running,
                attempt: get_count(row, "attempt")?,
                max_attempts: get_count(row, "max_attempts")?,
                losses: get_count(row, "losses")?,
                cancel_requested: get(row, "cancel_requested")?,
            },
            traceparent: get(row, "traceparent")?,
        })
    }
}

/// Takes back what lost workers ran. Guarded by the epoch like every finish: of two processes that do this at the same
/// time, one moves the row.
pub(super) async fn take_back(line: &mut Line) -> Result<Reaped> {
    let mut reaped = Reaped::default();
    let rows = line.rows(sqlx::query(ORPHANS).bind(PAGE)).await?;
    let orphans = rows.iter().map(Orphan::read).collect::<Result<Vec<_>>>()?;
    let mut finishes = Vec::with_capacity(orphans.len());
    for orphan in &orphans {
        // Losing a worker brings no delay, so neither the policy nor chance has a say.
        if let Ok(Decision::Move(transition)) = decide(&orphan.snapshot, &Event::Lose, &RetryPolicy::default(), 0.5) {
            finishes.push(Finish { lease: orphan.lease, transition, result: None, ran_for: Duration::ZERO });
        }
    }
    if finishes.is_empty() {
        return Ok(reaped);
    }
    let finished = finish(line, &finishes).await?;
    for (orphan, finished) in orphans.into_iter().zip(finished) {
        match finished {
            Finished::Applied(Some(pointer)) => {
                reaped.requeued.push(Dispatch { lane: orphan.lane, pointer, traceparent: orphan.traceparent });
            }
            Finished::Applied(None) => reaped.ended.push(orphan.lease.job),
            // Somebody else was faster, or a client wants it cancelled since: the next pass sees what is left.
            Finished::CancelRequested | Finished::Lost => {}
        }
    }
    Ok(reaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_counts_once_it_has_been_free_without_a_break() {
        let sightings = Sightings::default();
        let (a, b) = (Uuid::now_v7(), Uuid::now_v7());
        let start = clock::instant();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(sightings.see(&[a, b], at(0)).is_empty());
        assert!(sightings.see(&[a], at(999)).is_empty(), "b was taken again");
        assert_eq!(sightings.see(&[a, b], at(1000)), [a]);
        assert!(sightings.see(&[b], at(1999)).is_empty(), "b counts from its second sighting");
        assert_eq!(sightings.see(&[b], at(2000)), [b]);
    }
}
