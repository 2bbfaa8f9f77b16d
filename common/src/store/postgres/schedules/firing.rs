//! Fires: schedules have their turn.
//!
//! The rows of the schedules stay locked to the end of the transaction, so of several processes one decides. What else the
//! decision looks at (what was submitted last, the oldest fire that waits) is read after that, by a statement that sees what those who
//! held the rows before have committed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::reading::{schedule, schedule_columns};
use crate::failpoint;
use crate::job::{BatchId, JobId, NewJob, ScheduleId};
use crate::schedule::{Finding, Reason, Schedule, Submission, Submitted, Turn, Verdict};
use crate::store::postgres::connection::Line;
use crate::store::postgres::intake::microseconds;
use crate::store::postgres::rows::get;
use crate::store::postgres::{PostgresStore, batches, fill, intake, reads};
use crate::store::row::parse;
use crate::store::schedules::TROUBLE_LASTS;
use crate::store::{Accepted, Cancelled, Error, Fired, NextFire, Result};

pub(super) const NOW: &str = "-- offload: the time\nSELECT statement_timestamp() AS now";

/// Whether what the schedule called `s` submitted last has not come to its end.
macro_rules! last_runs {
    () => {
        "(EXISTS (SELECT FROM offload.jobs j WHERE j.id = s.last_job_id AND j.state IN ('scheduled', 'queued', 'running'))
          OR EXISTS (SELECT FROM offload.batches b WHERE b.id = s.last_batch_id AND b.succeeded + b.failed + b.cancelled < b.total))"
    };
}

/// Candidates by one index each; what holds of them is asked again of the row as it is once it is locked.
pub(super) const DUE: &str = concat!(
    "-- offload: schedules that are due
SELECT s.id FROM offload.schedules s
WHERE s.id IN (
    SELECT d.id FROM ((
        SELECT s.id FROM offload.schedules s
        WHERE s.next_at IS NOT NULL AND s.held_until IS NULL AND s.next_at <= statement_timestamp()
        ORDER BY s.next_at LIMIT $1)
    UNION ALL (
        SELECT s.id FROM offload.schedules s
        WHERE s.held_until IS NOT NULL AND s.held_until <= statement_timestamp() ORDER BY s.held_until LIMIT $1)
    UNION ALL (
        SELECT s.id FROM offload.schedules s
        WHERE s.waiting > 0 AND NOT s.paused AND s.held_until IS NULL AND NOT ",
    last_runs!(),
    " LIMIT $1)) d LIMIT $1)
  AND NOT s.paused AND (s.held_until IS NULL OR s.held_until <= statement_timestamp())
  AND (s.waiting > 0 OR s.next_at <= statement_timestamp())
ORDER BY s.id FOR UPDATE SKIP LOCKED"
);

pub(super) const FACTS: &str = concat!(
    "-- offload: what firing looks at
SELECT ",
    schedule_columns!(),
    ", statement_timestamp() AS now, ",
    last_runs!(),
    " AS last_runs, w.fire_at AS oldest, w.reason AS oldest_reason
FROM unnest($1::uuid[]) AS u (id) JOIN offload.schedules s ON s.id = u.id
LEFT JOIN LATERAL (
    SELECT f.fire_at, f.reason FROM offload.fires f
    WHERE f.schedule_id = s.id AND f.outcome = 'waiting' ORDER BY f.fire_at LIMIT 1) w ON true"
);

pub(super) const RECORD: &str = "-- offload: record fires
INSERT INTO offload.fires (schedule_id, fire_at, through, count, outcome, reason, job_id, batch_id, recorded_at)
SELECT s.*, statement_timestamp()
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::text[], $6::text[], $7::uuid[],
            $8::uuid[]) AS s
ON CONFLICT (schedule_id, fire_at) DO NOTHING
RETURNING schedule_id, fire_at";

pub(super) const REWRITE: &str = "-- offload: rewrite records of fires
UPDATE offload.fires f SET outcome = s.outcome, reason = s.reason, job_id = s.job_id, batch_id = s.batch_id,
    recorded_at = statement_timestamp()
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::uuid[], $6::uuid[])
     AS s (schedule_id, fire_at, outcome, reason, job_id, batch_id)
WHERE f.schedule_id = s.schedule_id AND f.fire_at = s.fire_at";

pub(super) const WRITE: &str = "-- offload: schedules after their turn
UPDATE offload.schedules s
SET next_at = u.next_at, last_fire_at = coalesce(u.last_fire_at, s.last_fire_at),
    last_job_id = CASE WHEN u.last_fire_at IS NULL THEN s.last_job_id ELSE u.last_job_id END,
    last_batch_id = CASE WHEN u.last_fire_at IS NULL THEN s.last_batch_id ELSE u.last_batch_id END, waiting = u.waiting, fired = s.fired + u.fired,
    caught_up = s.caught_up + u.caught_up, skipped = s.skipped + u.skipped,
    trouble = NULL, trouble_at = NULL, held_until = NULL
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::uuid[], $5::integer[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::uuid[]) AS u (id, next_at, last_fire_at, last_job_id, waiting, fired, caught_up, skipped, last_batch_id)
WHERE s.id = u.id";

pub(super) const TROUBLE: &str = "-- offload: schedules in trouble
UPDATE offload.schedules s
SET trouble = u.trouble, trouble_at = statement_timestamp(),
    held_until = statement_timestamp() + $3 * interval '1 microsecond'
FROM unnest($1::uuid[], $2::text[]) AS u (id, trouble) WHERE s.id = u.id";

pub(super) const NEXT: &str = "-- offload: the next fire
SELECT ceil(extract(epoch FROM least(
    (SELECT min(s.next_at) FROM offload.schedules s WHERE s.next_at IS NOT NULL AND s.held_until IS NULL),
    (SELECT min(s.held_until) FROM offload.schedules s WHERE s.held_until IS NOT NULL)
) - statement_timestamp()) * 1000000)::bigint AS microseconds,
EXISTS (SELECT FROM offload.schedules s WHERE s.waiting > 0 AND NOT s.paused) AS waiting";

/// The store's clock.
pub(super) async fn now(line: &mut Line) -> Result<DateTime<Utc>> {
    let row = line.row(sqlx::query(NOW)).await?;
    get(&row.ok_or_else(|| Error::Corrupt("the database knows no time".into()))?, "now")
}

/// See [`crate::store::Schedules::next_fire`].
pub(super) async fn next(line: &mut Line) -> Result<NextFire> {
    let Some(row) = line.row(sqlx::query(NEXT)).await? else { return Ok(NextFire::default()) };
    let microseconds: Option<i64> = get(&row, "microseconds")?;
    let due_in = microseconds.map(|left| Duration::from_micros(u64::try_from(left).unwrap_or(0)));
    Ok(NextFire { due_in, waiting: get(&row, "waiting")? })
}

/// See [`crate::store::Schedules::fire`]. Where the database refuses what one of them would write, each has its turn in a
/// transaction of its own.
pub(super) async fn fire(store: &PostgresStore, limit: u32) -> Result<Fired> {
    match fire_together(&mut *store.patient().await?, limit).await {
        Err(Error::Rejected(_)) => {}
        fired => return fired,
    }
    let mut all = Fired::default();
    for _ in 0..limit {
        let mut refused = None;
        match fire_one(&mut *store.patient().await?, &mut refused).await {
            Ok(fired) if fired.turns == 0 => break,
            Ok(fired) => all.add(fired),
            Err(Error::Rejected(reason)) => {
                let Some(id) = refused else { break };
                let line = &mut *store.patient().await?;
                mark(line, &[(id, reason.clone())]).await?;
                all.add(Fired { turns: 1, troubled: vec![(id, reason)], ..Fired::default() });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

async fn fire_together(line: &mut Line, limit: u32) -> Result<Fired> {
    line.begin("BEGIN").await?;
    let due = due(line, limit).await?;
    let fired = take_turns(line, &due).await?;
    if fired.turns > 0 {
        failpoint::reach("fire.before");
    }
    line.commit().await?;
    Ok(fired)
}

async fn fire_one(line: &mut Line, which: &mut Option<ScheduleId>) -> Result<Fired> {
    line.begin("BEGIN").await?;
    let due = due(line, 1).await?;
    *which = due.first().copied().map(ScheduleId);
    let fired = take_turns(line, &due).await?;
    line.commit().await?;
    Ok(fired)
}

async fn due(line: &mut Line, limit: u32) -> Result<Vec<Uuid>> {
    let rows = line.rows(sqlx::query(DUE).bind(i64::from(limit))).await?;
    rows.iter().map(|row| get(row, "id")).collect()
}

/// One schedule's turn, before it is written.
struct Taken {
    schedule: Schedule,
    turn: Turn,
}

async fn take_turns(line: &mut Line, due: &[Uuid]) -> Result<Fired> {
    let mut fired = Fired { turns: u32::try_from(due.len()).unwrap_or(u32::MAX), ..Fired::default() };
    if due.is_empty() {
        return Ok(fired);
    }
    let rows = line.rows(sqlx::query(FACTS).bind(due.to_vec())).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        match decide(row) {
            Ok(one) => taken.push(one),
            Err(error) => fired.troubled.push((ScheduleId(get(row, "id")?), error.to_string())),
        }
    }
    record_all(line, &mut taken).await?;
    cancel(line, &taken, &mut fired).await?;
    submit(line, &mut taken, &mut fired).await?;
    rewrite(line, &taken).await?;
    write(line, &taken).await?;
    mark(line, &fired.troubled).await?;
    Ok(fired)
}

fn decide(row: &PgRow) -> Result<Taken> {
    let mut schedule = schedule(row)?;
    let oldest: Option<DateTime<Utc>> = get(row, "oldest")?;
    let reason: Option<Reason> =
        get::<Option<&str>>(row, "oldest_reason")?.map(|text| parse("reason", text)).transpose()?;
    if oldest.is_none() {
        schedule.waiting = 0;
    }
    let finding = Finding {
        now: get(row, "now")?,
        last_runs: get(row, "last_runs")?,
        oldest_waiting: oldest.map(|at| (at, reason)),
    };
    let turn = schedule.turn(&finding).map_err(|error| Error::Corrupt(error.to_string()))?;
    Ok(Taken { schedule, turn })
}

/// Writes the records; what has one already loses its turn.
async fn record_all(line: &mut Line, taken: &mut [Taken]) -> Result<()> {
    let mut records = Vec::new();
    for Taken { schedule, turn } in taken.iter() {
        let ids = turn.records.iter().map(|(verdict, what)| (schedule.id, verdict, what.as_ref().map(Submission::id)));
        records.extend(ids);
    }
    let written = record(line, &records).await?;
    for Taken { schedule, turn } in taken.iter_mut() {
        let fires = turn.records.iter().map(|(verdict, _)| verdict.fire_at);
        let before: HashSet<_> = fires.filter(|at| !written.contains(&(schedule.id, *at))).collect();
        turn.leave_out(&before);
    }
    Ok(())
}

/// Writes what has become of fires that have their records already.
async fn rewrite(line: &mut Line, taken: &[Taken]) -> Result<()> {
    let mut rewritten = Vec::new();
    for Taken { schedule, turn } in taken {
        rewritten.extend(turn.rewritten().map(|(verdict, what)| (schedule.id, verdict, what)));
    }
    if rewritten.is_empty() {
        return Ok(());
    }
    let statement = sqlx::query(REWRITE)
        .bind(each(&rewritten, |(id, ..)| id.0))
        .bind(each(&rewritten, |(_, verdict, _)| verdict.fire_at))
        .bind(each(&rewritten, |(_, verdict, _)| verdict.outcome.as_str()))
        .bind(each(&rewritten, |(_, verdict, _)| verdict.reason.map(Reason::as_str)))
        .bind(each(&rewritten, |(.., what)| job_of(*what)))
        .bind(each(&rewritten, |(.., what)| batch_of(*what)));
    line.execute(statement).await.map(drop)
}

/// Writes records; answers those that were not there.
pub(super) async fn record(
    line: &mut Line,
    records: &[(ScheduleId, &Verdict, Option<Submitted>)],
) -> Result<HashSet<(ScheduleId, DateTime<Utc>)>> {
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let statement = sqlx::query(RECORD)
        .bind(each(records, |(id, ..)| id.0))
        .bind(each(records, |(_, verdict, _)| verdict.fire_at))
        .bind(each(records, |(_, verdict, _)| verdict.through))
        .bind(each(records, |(_, verdict, _)| i32::try_from(verdict.count).unwrap_or(i32::MAX)))
        .bind(each(records, |(_, verdict, _)| verdict.outcome.as_str()))
        .bind(each(records, |(_, verdict, _)| verdict.reason.map(Reason::as_str)))
        .bind(each(records, |(.., what)| job_of(*what)))
        .bind(each(records, |(.., what)| batch_of(*what)));
    let rows = line.rows(statement).await?;
    rows.iter().map(|row| Ok((ScheduleId(get(row, "schedule_id")?), get(row, "fire_at")?))).collect()
}

fn job_of(what: Option<Submitted>) -> Option<Uuid> {
    what.and_then(Submitted::job).map(|id| id.0)
}

fn batch_of(what: Option<Submitted>) -> Option<Uuid> {
    what.and_then(Submitted::batch).map(|id| id.0)
}

fn each<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

/// Cancels what later fires take the place of, in the order of the ids, as everybody takes them.
async fn cancel(line: &mut Line, taken: &[Taken], fired: &mut Fired) -> Result<()> {
    let (mut jobs, mut all): (BTreeMap<JobId, &str>, BTreeSet<BatchId>) = Default::default();
    for Taken { schedule, turn } in taken.iter().filter(|taken| taken.turn.submits()) {
        match turn.cancel {
            Some(Submitted::Job(job)) => drop(jobs.insert(job, &schedule.tenant)),
            Some(Submitted::Batch(batch)) => drop(all.insert(batch)),
            None => {}
        }
    }
    for (job, tenant) in jobs {
        match reads::cancel(line, tenant, job).await? {
            Some(Cancelled::Now) => fired.cancelled.push(job),
            Some(Cancelled::Requested) => fired.cancelling.push(job),
            Some(Cancelled::TooLate(_)) | None => {}
        }
    }
    let page = batches::cancel_whole(line, all).await?;
    fired.cancelled.extend(page.ended);
    fired.cancelling.extend(page.requested);
    Ok(())
}

async fn submit(line: &mut Line, taken: &mut [Taken], fired: &mut Fired) -> Result<()> {
    let jobs: Vec<NewJob> = taken.iter().flat_map(|taken| taken.turn.jobs().cloned()).collect();
    let accepted = if jobs.is_empty() { Vec::new() } else { intake::accept(line, &jobs).await? };
    let mut refused = HashSet::new();
    for (job, accepted) in jobs.iter().zip(&accepted) {
        match accepted {
            Accepted::New { .. } => fired.submitted.push(job.id),
            _ => drop(refused.insert(job.id)),
        }
    }
    taken.iter_mut().for_each(|taken| taken.turn.refuse(&refused));
    for (filling, jobs) in taken.iter().flat_map(|taken| taken.turn.batches()) {
        fill::make(line, filling, jobs).await?;
        fired.submitted.extend(jobs.iter().map(|job| job.id));
    }
    Ok(())
}

async fn write(line: &mut Line, taken: &[Taken]) -> Result<()> {
    if taken.is_empty() {
        return Ok(());
    }
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let statement = sqlx::query(WRITE)
        .bind(each(taken, |taken| taken.schedule.id.0))
        .bind(each(taken, |taken| taken.turn.next_at))
        .bind(each(taken, |taken| taken.turn.last().map(|(at, _)| at)))
        .bind(each(taken, |taken| job_of(taken.turn.last().map(|(_, what)| what))))
        .bind(each(taken, |taken| i32::try_from(taken.turn.waiting).unwrap_or(i32::MAX)))
        .bind(each(taken, |taken| count(taken.turn.counts().fired)))
        .bind(each(taken, |taken| count(taken.turn.counts().caught_up)))
        .bind(each(taken, |taken| count(taken.turn.counts().skipped)))
        .bind(each(taken, |taken| batch_of(taken.turn.last().map(|(_, what)| what))));
    line.execute(statement).await.map(drop)
}

async fn mark(line: &mut Line, troubled: &[(ScheduleId, String)]) -> Result<()> {
    if troubled.is_empty() {
        return Ok(());
    }
    let statement = sqlx::query(TROUBLE)
        .bind(each(troubled, |(id, _)| id.0))
        .bind(each(troubled, |(_, why)| why.as_str()))
        .bind(microseconds(TROUBLE_LASTS));
    line.execute(statement).await.map(drop)
}
