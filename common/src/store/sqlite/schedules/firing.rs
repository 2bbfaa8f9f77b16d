//! Fires: schedules have their turn, each in a transaction of its own.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::reading::{schedule, schedule_columns};
use crate::clock;
use crate::failpoint;
use crate::job::ScheduleId;
use crate::schedule::{Finding, Reason, Schedule, Submission, Submitted, Turn, Verdict};
use crate::store::row::parse;
use crate::store::schedules::TROUBLE_LASTS;
use crate::store::sqlite::error::Result;
use crate::store::sqlite::rows::{duration_micros, micros, time};
use crate::store::sqlite::writer::Writer;
use crate::store::sqlite::{batches, fill, intake};
use crate::store::{Accepted, Cancelled, Error, Fired, NextFire};

/// Whether what the schedule called `s` submitted last has not come to its end.
macro_rules! last_runs {
    () => {
        "(EXISTS (SELECT 1 FROM offload_jobs AS j WHERE j.id = s.last_job_id AND j.state IN ('scheduled', 'queued', 'running'))
     OR EXISTS (SELECT 1 FROM offload_batches AS b WHERE b.id = s.last_batch_id AND b.succeeded + b.failed + b.cancelled < b.total))"
    };
}

/// One by one, since a writer's turn should be short.
pub(in crate::store::sqlite) const DUE: &str = concat!(
    "-- which schedules are due
SELECT id FROM (
    SELECT id, next_at AS at FROM offload_schedules
    WHERE next_at IS NOT NULL AND held_until IS NULL AND next_at <= ?1
    UNION ALL
    SELECT id, held_until FROM offload_schedules WHERE held_until IS NOT NULL AND held_until <= ?1
        AND NOT paused AND (waiting > 0 OR next_at <= ?1)
    UNION ALL
    SELECT id, created_at FROM offload_schedules AS s WHERE s.waiting > 0 AND NOT s.paused AND s.held_until IS NULL AND NOT ",
    last_runs!(),
    ") ORDER BY at LIMIT ?2"
);

const FACTS: &str = concat!(
    "-- what firing looks at
SELECT ",
    schedule_columns!(),
    ", ",
    last_runs!(),
    " AS last_runs FROM offload_schedules AS s
WHERE id = ?1 AND NOT paused AND coalesce(held_until <= ?2, 1) AND (waiting > 0 OR next_at <= ?2)"
);

const OLDEST: &str = "-- the fire that has waited longest
SELECT fire_at, reason FROM offload_fires WHERE schedule_id = ?1 AND outcome = 'waiting' ORDER BY fire_at LIMIT 1";

const RECORD: &str = "-- record a fire
INSERT INTO offload_fires (schedule_id, fire_at, through, count, outcome, reason, job_id, batch_id, recorded_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (schedule_id, fire_at) DO NOTHING";

const REWRITE: &str = "-- rewrite the record of a fire
UPDATE offload_fires SET outcome = ?3, reason = ?4, job_id = ?5, batch_id = ?6, recorded_at = ?7
WHERE schedule_id = ?1 AND fire_at = ?2";

const WRITE: &str = "-- write a schedule after its turn
UPDATE offload_schedules
SET next_at = ?2, last_fire_at = coalesce(?3, last_fire_at), last_job_id = iif(?3 IS NULL, last_job_id, ?4),
    last_batch_id = iif(?3 IS NULL, last_batch_id, ?5), waiting = ?6,
    fired = fired + ?7, caught_up = caught_up + ?8, skipped = skipped + ?9,
    trouble = NULL, trouble_at = NULL, held_until = NULL
WHERE id = ?1";

const TROUBLE: &str = "-- note that a schedule is in trouble
UPDATE offload_schedules SET trouble = ?2, trouble_at = ?3, held_until = ?4 WHERE id = ?1";

pub(in crate::store::sqlite) const NEXT: &str = "-- when the next schedule is due
SELECT (SELECT min(next_at) FROM offload_schedules WHERE next_at IS NOT NULL AND held_until IS NULL) AS next_at,
    (SELECT min(held_until) FROM offload_schedules WHERE held_until IS NOT NULL) AS held_until,
    EXISTS (SELECT 1 FROM offload_schedules WHERE waiting > 0 AND NOT paused) AS waiting";

/// See [`crate::store::Schedules::next_fire`].
pub(super) async fn next(readers: &SqlitePool) -> Result<NextFire> {
    let row = sqlx::query(NEXT).fetch_one(readers).await?;
    let [next_at, held_until]: [Option<i64>; 2] = [row.try_get("next_at")?, row.try_get("held_until")?];
    let now = micros(clock::now());
    let due_in = next_at.into_iter().chain(held_until).min();
    let due_in = due_in.map(|at| Duration::from_micros(at.saturating_sub(now).max(0).unsigned_abs()));
    Ok(NextFire { due_in, waiting: row.try_get("waiting")? })
}

/// See [`crate::store::Schedules::fire`].
pub(super) async fn fire(writer: &Writer, limit: u32) -> Result<Fired> {
    let mut turn = writer.turn().await?;
    let due: Vec<Uuid> =
        sqlx::query_scalar(DUE).bind(micros(clock::now())).bind(limit).fetch_all(turn.connection()).await?;
    turn.rollback().await?;
    let mut fired = Fired::default();
    for id in due.into_iter().map(ScheduleId) {
        match fire_one(writer, id).await.map_err(Error::from) {
            Ok(one) => fired.add(one),
            Err(error @ (Error::Rejected(_) | Error::Corrupt(_))) => {
                mark(writer, id, &error.to_string()).await?;
                fired.add(Fired { turns: 1, troubled: vec![(id, error.to_string())], ..Fired::default() });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(fired)
}

async fn fire_one(writer: &Writer, id: ScheduleId) -> Result<Fired> {
    let mut taken = writer.turn().await?;
    let now = clock::now();
    let row = sqlx::query(FACTS).bind(id.0).bind(micros(now)).fetch_optional(taken.connection()).await?;
    let Some(row) = row else {
        taken.rollback().await?;
        return Ok(Fired::default());
    };
    let mut fired = Fired { turns: 1, ..Fired::default() };
    let (schedule, mut turn) = decide(taken.connection(), &row, now).await?;
    record_all(taken.connection(), &schedule, &mut turn, now).await?;
    match turn.cancel.filter(|_| turn.submits()) {
        Some(Submitted::Job(job)) => match intake::cancel_one(taken.connection(), &schedule.tenant, job).await? {
            Some(Cancelled::Now) => fired.cancelled.push(job),
            Some(Cancelled::Requested) => fired.cancelling.push(job),
            Some(Cancelled::TooLate(_)) | None => {}
        },
        Some(Submitted::Batch(batch)) => {
            let page = batches::cancel_page(taken.connection(), batch, None, u32::MAX).await?;
            fired.cancelled.extend(page.ended);
            fired.cancelling.extend(page.requested);
        }
        None => {}
    }
    let mut refused = HashSet::new();
    for job in turn.jobs() {
        match intake::accept_one(taken.connection(), job, now).await? {
            Accepted::New { .. } => fired.submitted.push(job.id),
            _ => drop(refused.insert(job.id)),
        }
    }
    turn.refuse(&refused);
    for (filling, jobs) in turn.batches() {
        fill::make(taken.connection(), filling, jobs, now).await?;
        fired.submitted.extend(jobs.iter().map(|job| job.id));
    }
    rewrite(taken.connection(), id, &turn, now).await?;
    write(taken.connection(), id, &turn).await?;
    failpoint::reach("fire.before");
    taken.commit().await?;
    Ok(fired)
}

async fn decide(connection: &mut SqliteConnection, row: &SqliteRow, now: DateTime<Utc>) -> Result<(Schedule, Turn)> {
    let mut schedule = schedule(row)?;
    let oldest = sqlx::query(OLDEST).bind(schedule.id.0).fetch_optional(connection).await?;
    let oldest_waiting = match &oldest {
        None => None,
        Some(row) => {
            let reason: Option<&str> = row.try_get("reason")?;
            let reason: Option<Reason> = reason.map(|text| parse("reason", text)).transpose()?;
            Some((time(row.try_get("fire_at")?)?, reason))
        }
    };
    if oldest_waiting.is_none() {
        schedule.waiting = 0;
    }
    let finding = Finding { now, last_runs: row.try_get("last_runs")?, oldest_waiting };
    let turn = schedule.turn(&finding).map_err(|error| Error::Corrupt(error.to_string()))?;
    Ok((schedule, turn))
}

/// Writes the records; what has one already loses its turn.
async fn record_all(
    connection: &mut SqliteConnection,
    schedule: &Schedule,
    turn: &mut Turn,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut before = HashSet::new();
    for (verdict, submission) in &turn.records {
        if !record(connection, schedule.id, verdict, submission.as_ref().map(Submission::id), now).await? {
            before.insert(verdict.fire_at);
        }
    }
    turn.leave_out(&before);
    Ok(())
}

/// Writes what has become of fires that have their records already.
async fn rewrite(connection: &mut SqliteConnection, id: ScheduleId, turn: &Turn, now: DateTime<Utc>) -> Result<()> {
    for (verdict, what) in turn.rewritten() {
        sqlx::query(REWRITE)
            .bind(id.0)
            .bind(micros(verdict.fire_at))
            .bind(verdict.outcome.as_str())
            .bind(verdict.reason.map(Reason::as_str))
            .bind(job_of(what))
            .bind(batch_of(what))
            .bind(micros(now))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Writes a record, unless there is one; answers whether it did.
pub(super) async fn record(
    connection: &mut SqliteConnection,
    id: ScheduleId,
    verdict: &Verdict,
    what: Option<Submitted>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let written = sqlx::query(RECORD)
        .bind(id.0)
        .bind(micros(verdict.fire_at))
        .bind(micros(verdict.through))
        .bind(verdict.count)
        .bind(verdict.outcome.as_str())
        .bind(verdict.reason.map(Reason::as_str))
        .bind(job_of(what))
        .bind(batch_of(what))
        .bind(micros(now))
        .execute(connection)
        .await?;
    Ok(written.rows_affected() == 1)
}

fn job_of(what: Option<Submitted>) -> Option<Uuid> {
    what.and_then(Submitted::job).map(|id| id.0)
}

fn batch_of(what: Option<Submitted>) -> Option<Uuid> {
    what.and_then(Submitted::batch).map(|id| id.0)
}

async fn write(connection: &mut SqliteConnection, id: ScheduleId, turn: &Turn) -> Result<()> {
    let (last, counts) = (turn.last(), turn.counts());
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    sqlx::query(WRITE)
        .bind(id.0)
        .bind(turn.next_at.map(micros))
        .bind(last.map(|(at, _)| micros(at)))
        .bind(job_of(last.map(|(_, what)| what)))
        .bind(batch_of(last.map(|(_, what)| what)))
        .bind(turn.waiting)
        .bind(count(counts.fired))
        .bind(count(counts.caught_up))
        .bind(count(counts.skipped))
        .execute(connection)
        .await?;
    Ok(())
}

async fn mark(writer: &Writer, id: ScheduleId, why: &str) -> Result<()> {
    let mut turn = writer.turn().await?;
    let now = micros(clock::now());
    let until = now.saturating_add(duration_micros(TROUBLE_LASTS));
    sqlx::query(TROUBLE).bind(id.0).bind(why).bind(now).bind(until).execute(turn.connection()).await?;
    turn.commit().await
}
