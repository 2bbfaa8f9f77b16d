//! Taking back what workers ran that are gone.

use std::time::Duration;

use sqlx::postgres::PgRow;

use super::connection::Line;
use super::finish::apply_linked;
use super::liveness::{self, Watch};
use super::rows::{get, get_count, get_lane};
use crate::clock;
use crate::job::transition::{Decision, Event, Snapshot, decide};
use crate::job::{JobId, Lane, Lease, Nonce, State, WorkerId};
use crate::retry::RetryPolicy;
use crate::store::{Dispatch, Finish, Finished, ReapPolicy, Reaped, Result};

/// The rows that one pass takes at most; the next pass takes the rest.
const PAGE: i64 = 500;

/// One look into the index per worker that runs something, then its rows.
pub(super) const ORPHANS: &str = "-- offload: running jobs whose worker is gone
WITH RECURSIVE busy AS (
    (SELECT worker_id FROM offload.jobs WHERE state = 'running' ORDER BY worker_id LIMIT 1)
    UNION ALL
    SELECT next.* FROM busy b CROSS JOIN LATERAL (
        SELECT j.worker_id FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id > b.worker_id
        ORDER BY j.worker_id LIMIT 1) next
), gone AS MATERIALIZED (
    SELECT b.worker_id FROM busy b WHERE NOT EXISTS (
        SELECT FROM offload.workers w WHERE w.id = b.worker_id AND w.reaped_at IS NULL AND w.left_at IS NULL)
)
SELECT o.* FROM gone g CROSS JOIN LATERAL (
    SELECT j.id, j.queue, j.priority::text, j.epoch, j.attempt, j.max_attempts, j.losses, j.cancel_requested, j.worker_id,
           j.traceparent
    FROM offload.jobs j WHERE j.state = 'running' AND j.worker_id = g.worker_id LIMIT $1 FOR UPDATE SKIP LOCKED) o
LIMIT $1";

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
                waits: false,
            },
            traceparent: get(row, "traceparent")?,
        })
    }
}

/// One pass; see [`crate::store::Store::reap`]. It takes one connection, and while nothing is the matter it is one
/// statement.
pub(super) async fn reap(line: &mut Line, own: &str, watch: &Watch, policy: &ReapPolicy) -> Result<Reaped> {
    let look = liveness::look(line, own, policy.lease).await?;
    let workers = match policy.judge {
        Some(judge) => liveness::mark(line, watch, &look, judge, policy.lease).await?,
        None => Vec::new(),
    };
    let marked = !workers.is_empty();
    // Every process looks, so that what one has marked and not come to take is taken by another.
    let orphans = look.orphans || marked || watch.sweeps(clock::instant());
    let mut reaped = if orphans { take_back(line).await? } else { Reaped::default() };
    let left_behind = look.left_behind || marked;
    if left_behind && let Err(error) = liveness::terminate(line, own).await {
        tracing::warn!(%error, "the connections of lost workers could not be closed; the next pass tries again");
    }
    reaped.workers = workers;
    reaped.suspicion = left_behind || policy.judge.is_some() && look.is_suspicious();
    reaped.waiting = look.waiting;
    Ok(reaped)
}

/// Takes back what lost workers ran. Of two processes that do this at the same time each takes its share; a row that
/// somebody holds locked holds nobody up.
async fn take_back(line: &mut Line) -> Result<Reaped> {
    line.begin("BEGIN").await?;
    let rows = line.rows(sqlx::query(ORPHANS).bind(PAGE)).await?;
    // One that cannot be read must not keep the others.
    let read = |row| Orphan::read(row).inspect_err(|error| tracing::error!(%error, "a lost job cannot be read")).ok();
    let orphans: Vec<_> = rows.iter().filter_map(read).collect();
    let mut finishes = Vec::with_capacity(orphans.len());
    for orphan in &orphans {
        // Losing a worker brings no delay, so neither the policy nor chance has a say.
        if let Ok(Decision::Move(transition)) = decide(&orphan.snapshot, &Event::Lose, &RetryPolicy::default(), 0.5) {
            finishes.push(Finish {
                lease: orphan.lease,
                transition,
                result: None,
                ran_for: Duration::ZERO,
                linked: true,
            });
        }
    }
    let finished = if finishes.is_empty() { Vec::new() } else { apply_linked(line, &finishes).await? };
    line.commit().await?;
    let mut reaped = Reaped::default();
    for (orphan, finished) in orphans.into_iter().zip(finished) {
        match finished {
            Some(Finished::Applied(Some(pointer))) => {
                reaped.requeued.push(Dispatch { lane: orphan.lane, pointer, traceparent: orphan.traceparent });
            }
            Some(Finished::Applied(None)) => reaped.ended.push(orphan.lease.job),
            // The row is locked, so that nobody can have been faster; the next pass sees what is left.
            Some(Finished::CancelRequested | Finished::Lost) | None => {}
        }
    }
    Ok(reaped)
}
