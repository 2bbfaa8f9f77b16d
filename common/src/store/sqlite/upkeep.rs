//! What keeps jobs moving: promotion, stealing, reaping.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use sqlx::{Row, SqliteConnection, SqlitePool};

use super::error::Result;
use super::fleet::Fleet;
use super::moves::{Move, Run, apply};
use super::rows::{
    candidate, candidate_columns, duration_micros, hex_list, job_id, lane, micros, number, run, string_list, trail,
};
use super::runs::take;
use super::writer::Writer;
use crate::clock;
use crate::job::transition::{Decision, Event, Snapshot, decide};
use crate::job::{Epoch, Lane, Lease, Nonce, State};
use crate::retry::RetryPolicy;
use crate::store::{Candidate, Claim, Dispatch, Pointer, ReapPolicy, Reaped, Steal};

/// A job that lost its worker and is queued for longer waits in vain.
const A_MOMENT: Duration = Duration::from_millis(500);

pub(super) const COUNT_QUEUED: &str = "-- how many jobs each lane holds
SELECT queue, priority, (SELECT count(*) FROM (SELECT 1 FROM offload_jobs AS j
    WHERE j.state = 'queued' AND j.queue = lanes.queue AND j.priority = lanes.priority LIMIT ?1)) AS queued
FROM (SELECT DISTINCT queue, priority FROM offload_streams) AS lanes";

const STREAMS: &str = "-- the streams of these kinds
SELECT queue, priority, kind FROM offload_streams WHERE kind IN (SELECT value FROM json_each(?1))";

pub(super) const DUE: &str = "-- the head of a stream
SELECT id, queue, priority, epoch, run_at, traceparent FROM offload_jobs
WHERE state = 'scheduled' AND queue = ?1 AND priority = ?2 AND kind = ?3 AND run_at <= ?4
ORDER BY run_at, id LIMIT ?5";

/// A row without a trail was due when it was accepted: `queued` is what clients have seen all along, as they have of one whose
/// trail ends so.
pub(super) const PROMOTE: &str = concat!(
    "-- queue due jobs
UPDATE offload_jobs SET state = 'queued', epoch = epoch + 1, queued_at = ?2, trail = ",
    trail!("json_object('epoch', epoch + 1, 'state', 'queued', 'at', ?3)", unless: "trail IS NULL OR trail ->> '$[#-1].state' = 'queued'"),
    "
WHERE state = 'scheduled' AND id IN (SELECT unhex(value) FROM json_each(?1))"
);

/// Which rows is settled before any payload is read.
macro_rules! steal {
    ($losses:literal) => {
        concat!(
            "-- find queued jobs whose messages were lost
SELECT ",
            candidate_columns!(),
            " FROM offload_jobs WHERE rowid IN
    (SELECT rowid FROM offload_jobs
    WHERE state = 'queued' AND ",
            $losses,
            " AND queued_at <= ?1
        AND queue IN (SELECT value FROM json_each(?2)) AND kind IN (SELECT value FROM json_each(?3))
    ORDER BY queued_at, id LIMIT ?4)
ORDER BY queued_at, id"
        )
    };
}
// `losses > 0` is what the index of these rows says, word for word.
pub(super) const STEAL_SUSPECT: &str = steal!("losses > 0 AND losses >= 2");
pub(super) const STEAL_LOST: &str = steal!("losses > 0 AND losses = 1");
pub(super) const STEAL: &str = steal!("losses = 0");

/// While nothing is the matter, reaping does not write.
pub(super) const LOOK: &str = "-- whether jobs lost their workers, or wait again since they did
SELECT
    EXISTS (SELECT 1 FROM offload_jobs
        WHERE state = 'running' AND worker_id NOT IN (SELECT unhex(value) FROM json_each(?1))) AS orphans,
    EXISTS (SELECT 1 FROM offload_jobs WHERE state = 'queued' AND losses > 0 AND queued_at < ?2) AS waiting";

pub(super) const ORPHANS: &str = "-- find running jobs whose worker is gone
SELECT id, queue, priority, epoch, attempt, max_attempts, losses, cancel_requested, worker_id, started_at, traceparent
FROM offload_jobs
WHERE state = 'running' AND worker_id NOT IN (SELECT unhex(value) FROM json_each(?1))";

/// See [`crate::store::Store::promote`].
pub(super) async fn promote(writer: &Writer, fleet: &Fleet, window: u32, limit: u32) -> Result<Vec<Dispatch>> {
    let mut turn = writer.turn().await?;
    let at = clock::now();
    let now = micros(at);
    let mut room = room(turn.connection(), window).await?;
    let mut due = due(turn.connection(), &fleet.kinds(), now, limit).await?;
    // The heads of all streams together, oldest due first; `limit` of each are enough.
    due.sort_by_key(|(run_at, dispatch)| (*run_at, dispatch.pointer.id));
    let fits = |dispatch: &Dispatch| match room.get_mut(&dispatch.lane) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    };
    let promoted: Vec<Dispatch> =
        due.into_iter().map(|(_, dispatch)| dispatch).filter(fits).take(limit as usize).collect();
    let ids = hex_list(promoted.iter().map(|dispatch| dispatch.pointer.id.0));
    sqlx::query(PROMOTE).bind(ids).bind(now).bind(at.to_rfc3339()).execute(turn.connection()).await?;
    turn.commit().await?;
    Ok(promoted)
}

/// How many more jobs each lane takes.
async fn room(connection: &mut SqliteConnection, window: u32) -> Result<HashMap<Lane, i64>> {
    let rows = sqlx::query(COUNT_QUEUED).bind(window).fetch_all(connection).await?;
    let left = |row| Ok((lane(row)?, i64::from(window) - row.try_get::<i64, _>("queued")?));
    rows.iter().map(left).collect()
}

/// The oldest due rows of each stream, as they will be once queued.
async fn due(
    connection: &mut SqliteConnection,
    kinds: &BTreeSet<String>,
    now: i64,
    limit: u32,
) -> Result<Vec<(i64, Dispatch)>> {
    let kinds: Vec<String> = kinds.iter().cloned().collect();
    let streams = sqlx::query(STREAMS).bind(string_list(&kinds)).fetch_all(&mut *connection).await?;
    let mut due = Vec::new();
    for stream in streams {
        let Lane { queue, priority } = lane(&stream)?;
        let rows = sqlx::query(DUE)
            .bind(queue)
            .bind(priority.as_str())
            .bind(stream.try_get::<&str, _>("kind")?)
            .bind(now)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            let epoch: Epoch = row.try_get("epoch")?;
            let pointer = Pointer { id: job_id(&row)?, epoch: epoch + 1, queued_at: now };
            let dispatch = Dispatch { lane: lane(&row)?, pointer, traceparent: row.try_get("traceparent")? };
            due.push((row.try_get("run_at")?, dispatch));
        }
    }
    Ok(due)
}

/// See [`crate::store::Store::steal`].
pub(super) async fn steal(writer: &Writer, fleet: &Fleet, steal: &Steal) -> Result<Vec<(Candidate, Lease)>> {
    let mut turn = writer.turn().await?;
    if !fleet.has(steal.worker) {
        turn.commit().await?;
        return Ok(Vec::new());
    }
    let now = clock::now();
    let before = |age: Duration| micros(now).saturating_sub(duration_micros(age));
    let (lost, others) = (before(steal.lost_older_than), steal.older_than.map(before));
    let (queues, kinds) = (string_list(&steal.queues), string_list(&steal.kinds));
    let mut stolen = Vec::new();
    // At most one that lost a worker: it may be what kills them.
    let suspects = if steal.suspects { steal.limit.min(1) } else { 0 };
    let turns = [
        (STEAL_SUSPECT, Some(lost), suspects),
        (STEAL_LOST, Some(lost), steal.limit),
        // Nothing is older than never.
        (STEAL, others, steal.limit),
    ];
    for (sql, queued_before, limit) in turns {
        let room = limit.saturating_sub(u32::try_from(stolen.len()).unwrap_or(u32::MAX));
        let rows = sqlx::query(sql)
            .bind(queued_before)
            .bind(&queues)
            .bind(&kinds)
            .bind(room)
            .fetch_all(turn.connection())
            .await?;
        for row in rows {
            let seen = candidate(&row)?;
            let claim = Claim { job: seen.id, epoch: seen.epoch, nonce: Nonce::new(), running_for: Duration::ZERO };
            if let Some(lease) = take(turn.connection(), steal.worker, &claim, now).await? {
                let running =
                    Candidate { state: State::Running, epoch: lease.epoch, attempt: seen.attempt + 1, ..seen };
                stolen.push((running, lease));
            }
        }
    }
    turn.commit().await?;
    Ok(stolen)
}

/// See [`crate::store::Store::reap`].
pub(super) async fn reap(writer: &Writer, readers: &SqlitePool, fleet: &Fleet, policy: &ReapPolicy) -> Result<Reaped> {
    let steady = policy.judge.is_some_and(|judge| judge.steady);
    let workers = if steady { fleet.reap(policy.lease) } else { Vec::new() };
    let a_moment_ago = micros(clock::now()).saturating_sub(duration_micros(A_MOMENT));
    let look = sqlx::query(LOOK).bind(alive(fleet)).bind(a_moment_ago).fetch_one(readers).await?;
    let mut reaped = Reaped { workers, waiting: look.try_get("waiting")?, ..Reaped::default() };
    if !look.try_get::<bool, _>("orphans")? {
        return Ok(reaped);
    }
    let mut turn = writer.turn().await?;
    let now = clock::now();
    // Asked within the turn: whoever joins later cannot have claimed anything yet.
    let orphans = sqlx::query(ORPHANS).bind(alive(fleet)).fetch_all(turn.connection()).await?;
    for row in orphans {
        let (id, epoch): (_, Epoch) = (job_id(&row)?, row.try_get("epoch")?);
        let job = Snapshot {
            state: State::Running,
            attempt: number(&row, "attempt")?,
            max_attempts: number(&row, "max_attempts")?,
            losses: number(&row, "losses")?,
            cancel_requested: row.try_get("cancel_requested")?,
            waits: false,
        };
        let Ok(Decision::Move(to)) = decide(&job, &Event::Lose, &RetryPolicy::default(), 0.0) else { continue };
        let (worker, started_at) = run(&row)?;
        let run = Run { worker, started_at, nonce: None };
        let from = (State::Running, epoch);
        apply(turn.connection(), &Move { job: id, from, to: &to, run: Some(run), result: None, now }).await?;
        if to.to == State::Queued {
            let pointer = Pointer { id, epoch: epoch + 1, queued_at: micros(now) };
            reaped.requeued.push(Dispatch { lane: lane(&row)?, pointer, traceparent: row.try_get("traceparent")? });
        } else {
            reaped.ended.push(id);
        }
    }
    turn.commit().await?;
    Ok(reaped)
}

/// The members, as the statements take them.
fn alive(fleet: &Fleet) -> String {
    hex_list(fleet.alive().into_iter().map(|worker| worker.0))
}
