//! Forgetting what is past its retention. Whole days of jobs are dropped; rows are deleted one by one only where a day
//! cannot be: something in it is unfinished or finished late, or jobs are kept for less than a day.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::connection::Line;
use super::error::Origin;
use super::partitions::{Calendar, calendar, first_id, prepare, start_of, suffix};
use super::rows::get;
use crate::job::FileId;
use crate::store::{Error, Pruned, Result, Retention};

/// The rows that one statement deletes, and the statements that one pass runs, at most: the rest is for the next pass.
const PAGE: i64 = 5000;
const PAGES: usize = 20;

/// How long the rows of workers that are gone are kept, for people who look back.
pub(super) const FORGET_WORKERS: &str = "-- offload: forget workers
DELETE FROM offload.workers w WHERE greatest(w.reaped_at, w.left_at) < statement_timestamp() - interval '1 day'";

pub(super) const NOW: &str = "-- offload: now\nSELECT statement_timestamp() AS now";

/// By id, which is the order they were made in, so that a page is found without an index on the time of the finish.
pub(super) const DELETE_JOBS: &str = "-- offload: delete old jobs
WITH old AS MATERIALIZED (
    SELECT id FROM offload.jobs
    WHERE id < $1 AND finished_at <= $2 AND state IN ('succeeded', 'failed', 'cancelled')
    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
), lines AS (
    DELETE FROM offload.job_logs l USING old WHERE l.job_id = old.id
)
DELETE FROM offload.jobs j USING old WHERE j.id = old.id";

/// Not one whose jobs run again.
pub(super) const DELETE_BATCHES: &str = "-- offload: delete old batches
DELETE FROM offload.batches b WHERE b.finished_at <= $1 AND b.succeeded + b.failed + b.cancelled >= b.total";

/// As long as the job that delivers it is there, it may be tried again, and needs its secret.
pub(super) const DELETE_CALLBACKS: &str = "-- offload: delete old callbacks
DELETE FROM offload.callbacks c
WHERE c.fired_at <= $1 AND NOT EXISTS (SELECT FROM offload.jobs j WHERE j.id = c.job_id)";

/// What is named here by a job that is gone. All that were made as long ago as that are looked at.
pub(super) const DELETE_PARENTS: &str = "-- offload: delete the parents of old jobs
WITH old AS MATERIALIZED (
    SELECT p.job_id, p.place FROM offload.job_parents p
    WHERE p.job_id < $1 AND NOT EXISTS (SELECT FROM offload.jobs j WHERE j.id = p.job_id)
    ORDER BY p.job_id, p.place LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM offload.job_parents p USING old WHERE p.job_id = old.job_id AND p.place = old.place";

pub(super) const DELETE_KEYS: &str = "-- offload: delete old idempotency keys
DELETE FROM offload.idempotency_keys k USING (
    SELECT tenant, key FROM offload.idempotency_keys WHERE created_at <= $1
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) old
WHERE k.tenant = old.tenant AND k.key = old.key";

pub(super) const DELETE_FILES: &str = "-- offload: delete old files
DELETE FROM offload.files f USING (
    SELECT id FROM offload.files WHERE created_at <= $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) old
WHERE f.id = old.id RETURNING f.id";

/// What waits is kept while its schedule is there: it is to fire yet.
pub(super) const DELETE_FIRES: &str = "-- offload: delete old records of fires
DELETE FROM offload.fires f USING (
    SELECT f.schedule_id, f.fire_at FROM offload.fires f
    WHERE f.recorded_at <= $1
      AND (f.outcome <> 'waiting' OR NOT EXISTS (SELECT FROM offload.schedules s WHERE s.id = f.schedule_id))
    ORDER BY f.recorded_at LIMIT $2 FOR UPDATE SKIP LOCKED) old
WHERE f.schedule_id = old.schedule_id AND f.fire_at = old.fire_at";

/// For days in which everything is final: when the last of it finished. That takes reading the whole partition, and never
/// changes again, so it is done once.
#[derive(Default)]
pub(super) struct LastFinishes(Mutex<HashMap<NaiveDate, DateTime<Utc>>>);

impl LastFinishes {
    fn get(&self, day: NaiveDate) -> Option<DateTime<Utc>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&day).copied()
    }

    fn set(&self, day: NaiveDate, at: DateTime<Utc>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(day, at);
    }
}

/// Forgets, and makes room for the days to come; see [`crate::store::Store::prune`].
pub(super) async fn prune(line: &mut Line, lasts: &LastFinishes, retention: &Retention) -> Result<Pruned> {
    prepare(line).await?;
    let row = line.row(sqlx::query(NOW)).await?.ok_or_else(|| Error::Corrupt("the database knows no time".into()))?;
    let now: DateTime<Utc> = get(&row, "now")?;
    let before = |kept| {
        let kept = TimeDelta::from_std(kept).unwrap_or(TimeDelta::MAX);
        now.checked_sub_signed(kept).unwrap_or(DateTime::UNIX_EPOCH).max(DateTime::UNIX_EPOCH)
    };

    let cutoff = before(retention.jobs);
    let Calendar { days, .. } = calendar(line).await?;
    let mut pruned = Pruned::default();
    for day in days.into_iter().filter(|day| start_of(*day + Days::new(1)) <= cutoff) {
        pruned.jobs += drop_day(line, lasts, day, cutoff).await?;
    }
    let keep_part_of_a_day = retention.jobs < std::time::Duration::from_secs(24 * 60 * 60);
    let made_before =
        if keep_part_of_a_day { cutoff + TimeDelta::milliseconds(1) } else { start_of(cutoff.date_naive()) };
    for _ in 0..PAGES {
        let delete = sqlx::query(DELETE_JOBS).bind(first_id(made_before)).bind(cutoff).bind(PAGE);
        let deleted = line.execute(delete).await?;
        pruned.jobs += deleted;
        if deleted < PAGE.unsigned_abs() {
            break;
        }
    }
    for _ in 0..PAGES {
        let delete = sqlx::query(DELETE_PARENTS).bind(first_id(made_before)).bind(PAGE);
        if line.execute(delete).await? < PAGE.unsigned_abs() {
            break;
        }
    }
    line.execute(sqlx::query(DELETE_BATCHES).bind(cutoff)).await?;
    line.execute(sqlx::query(DELETE_CALLBACKS).bind(cutoff)).await?;
    for _ in 0..PAGES {
        let delete = sqlx::query(DELETE_FIRES).bind(cutoff).bind(PAGE);
        if line.execute(delete).await? < PAGE.unsigned_abs() {
            break;
        }
    }
    for _ in 0..PAGES {
        let delete = sqlx::query(DELETE_KEYS).bind(before(retention.idempotency_keys)).bind(PAGE);
        let deleted = line.execute(delete).await?;
        pruned.idempotency_keys += deleted;
        if deleted < PAGE.unsigned_abs() {
            break;
        }
    }
    let files = line.rows(sqlx::query(DELETE_FILES).bind(before(retention.files)).bind(PAGE)).await?;
    pruned.files = files.iter().map(|row| Ok(FileId(get(row, "id")?))).collect::<Result<_>>()?;
    line.execute(sqlx::query(FORGET_WORKERS)).await?;
    Ok(pruned)
}

/// Drops a day if nothing in it is unfinished, or finished after the cutoff. Answers about how many jobs it held.
async fn drop_day(line: &mut Line, lasts: &LastFinishes, day: NaiveDate, cutoff: DateTime<Utc>) -> Result<u64> {
    let name = suffix(day);
    // Each question has a partial index that answers it without reading what is finished.
    let unfinished = format!(
        "EXISTS (SELECT FROM offload.jobs_{name} WHERE state = 'scheduled')
         OR EXISTS (SELECT FROM offload.jobs_{name} WHERE state = 'queued')
         OR EXISTS (SELECT FROM offload.jobs_{name} WHERE state = 'running')"
    );
    if lasts.get(day).is_none() {
        let ask = format!("-- offload: is a day over\nSELECT {unfinished} AS unfinished");
        let row = line.row(sqlx::query(AssertSqlSafe(ask)).persistent(false)).await?;
        if row.map_or(Ok(true), |row| get(&row, "unfinished"))? {
            return Ok(0);
        }
        let ask =
            format!("-- offload: the last finish of a day\nSELECT max(finished_at) AS last FROM offload.jobs_{name}");
        let row = line.row(sqlx::query(AssertSqlSafe(ask)).persistent(false)).await?;
        let last = row.map(|row| get::<Option<_>>(&row, "last")).transpose()?.flatten();
        lasts.set(day, last.unwrap_or(DateTime::UNIX_EPOCH));
    }
    if lasts.get(day).is_some_and(|last| last > cutoff) {
        return Ok(0);
    }
    let ask = format!(
        "-- offload: size of a day\nSELECT greatest(reltuples, 0)::bigint AS jobs FROM pg_class
         WHERE oid = to_regclass('offload.jobs_{name}')"
    );
    let row = line.row(sqlx::query(AssertSqlSafe(ask)).persistent(false)).await?;
    let Some(row) = row else { return Ok(0) };
    // The parents first, as every statement takes them; once nobody else can write, the question is asked again.
    let drop = format!(
        "-- offload: drop a day
BEGIN;
SET LOCAL lock_timeout = '2s';
LOCK TABLE ONLY offload.jobs, ONLY offload.job_logs IN ACCESS EXCLUSIVE MODE;
DO $$
BEGIN
    IF to_regclass('offload.jobs_{name}') IS NULL THEN
        RETURN; -- another process was faster
    END IF;
    IF NOT ({unfinished}) THEN
        DROP TABLE offload.jobs_{name};
        DROP TABLE IF EXISTS offload.job_logs_{name};
    END IF;
END
$$;
COMMIT"
    );
    line.script(Origin::Offload, drop).await?;
    get::<i64>(&row, "jobs").map(i64::unsigned_abs)
}
