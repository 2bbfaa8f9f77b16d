//! Schedules, fires and their jobs, as the auditor reads them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use uuid::Uuid;

use crate::clock;
use crate::job::{JobId, ScheduleId};
use crate::schedule::Submitted;
use crate::store::audit::{FireUse, FiredJob, LateSchedule};
use crate::store::row::parse;
use crate::store::sqlite::error::Result;
use crate::store::sqlite::rows::{duration_micros, micros, optional_time, time};

const FIRES: &str = "-- audit, fires
SELECT f.schedule_id, f.fire_at, f.outcome, f.job_id, f.batch_id, f.recorded_at,
    j.id IS NOT NULL OR b.id IS NOT NULL AS present
FROM offload_fires AS f
LEFT JOIN offload_jobs AS j ON j.id = f.job_id LEFT JOIN offload_batches AS b ON b.id = f.batch_id
WHERE (f.schedule_id, f.fire_at) > (?1, ?2) ORDER BY f.schedule_id, f.fire_at LIMIT ?3";

const FIRED: &str = "-- audit, jobs of fires
SELECT j.schedule_id, j.id, j.fire_at, j.batch_id, j.created_at, f.schedule_id IS NOT NULL AS recorded, f.job_id,
    f.batch_id AS fired_batch_id
FROM offload_jobs AS j LEFT JOIN offload_fires AS f ON f.schedule_id = j.schedule_id AND f.fire_at = j.fire_at
WHERE j.schedule_id IS NOT NULL AND (j.schedule_id, j.id) > (?1, ?2) ORDER BY j.schedule_id, j.id LIMIT ?3";

const LATE: &str = "-- audit, late schedules
SELECT id, name, next_at, trouble FROM offload_schedules WHERE NOT paused AND next_at < ?1 ORDER BY next_at LIMIT ?2";

/// See [`crate::store::audit::Audit::fires`].
pub(in crate::store::sqlite) async fn fires(
    readers: &SqlitePool,
    after: Option<(ScheduleId, DateTime<Utc>)>,
    limit: u32,
) -> Result<Vec<FireUse>> {
    let (schedule, fire_at) = after.map_or((Uuid::nil(), i64::MIN), |(schedule, at)| (schedule.0, micros(at)));
    let rows = sqlx::query(FIRES).bind(schedule).bind(fire_at).bind(limit).fetch_all(readers).await?;
    let now = micros(clock::now());
    let used = |row: &SqliteRow| {
        Ok(FireUse {
            schedule: ScheduleId(row.try_get("schedule_id")?),
            fire_at: time(row.try_get("fire_at")?)?,
            outcome: parse("outcome", row.try_get("outcome")?)?,
            submitted: Submitted::of(row.try_get("job_id")?, row.try_get("batch_id")?),
            age: since(row.try_get("recorded_at")?, now),
            present: row.try_get("present")?,
        })
    };
    rows.iter().map(used).collect()
}

/// See [`crate::store::audit::Audit::fired`].
pub(in crate::store::sqlite) async fn fired(
    readers: &SqlitePool,
    after: Option<(ScheduleId, JobId)>,
    limit: u32,
) -> Result<Vec<FiredJob>> {
    let (schedule, job) = after.map_or((Uuid::nil(), Uuid::nil()), |(schedule, job)| (schedule.0, job.0));
    let rows = sqlx::query(FIRED).bind(schedule).bind(job).bind(limit).fetch_all(readers).await?;
    let now = micros(clock::now());
    let fired = |row: &SqliteRow| {
        let (id, recorded): (Uuid, bool) = (row.try_get("id")?, row.try_get("recorded")?);
        let named = Submitted::of(row.try_get("job_id")?, row.try_get("fired_batch_id")?);
        Ok(FiredJob {
            schedule: ScheduleId(row.try_get("schedule_id")?),
            job: JobId(id),
            fire_at: optional_time(row.try_get("fire_at")?)?,
            age: since(row.try_get("created_at")?, now),
            expected: Submitted::of(None, row.try_get("batch_id")?).unwrap_or(Submitted::Job(JobId(id))),
            recorded: recorded.then_some(named),
        })
    };
    rows.iter().map(fired).collect()
}

/// See [`crate::store::audit::Audit::late_schedules`].
pub(in crate::store::sqlite) async fn late(
    readers: &SqlitePool,
    longer_than: Duration,
    limit: u32,
) -> Result<Vec<LateSchedule>> {
    let before = micros(clock::now()).saturating_sub(duration_micros(longer_than));
    let rows = sqlx::query(LATE).bind(before).bind(limit).fetch_all(readers).await?;
    let late = |row: &SqliteRow| {
        Ok(LateSchedule {
            id: ScheduleId(row.try_get("id")?),
            name: row.try_get("name")?,
            next_at: time(row.try_get("next_at")?)?,
            trouble: row.try_get("trouble")?,
        })
    };
    rows.iter().map(late).collect()
}

fn since(then: i64, now: i64) -> Duration {
    Duration::from_micros(now.saturating_sub(then).max(0).unsigned_abs())
}
