//! Schedules, fires and their jobs, as the auditor reads them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::job::{JobId, ScheduleId};
use crate::schedule::Submitted;
use crate::store::Result;
use crate::store::audit::{FireUse, FiredJob, LateSchedule};
use crate::store::postgres::connection::Line;
use crate::store::postgres::intake::microseconds;
use crate::store::postgres::rows::get;
use crate::store::row::parse;

pub(super) const FIRES: &str = "-- offload: audit, fires
SELECT f.schedule_id, f.fire_at, f.outcome, f.job_id, f.batch_id,
       j.id IS NOT NULL OR b.id IS NOT NULL AS present,
       greatest(0, extract(epoch FROM statement_timestamp() - f.recorded_at) * 1000000)::bigint AS age
FROM (SELECT * FROM offload.fires WHERE (schedule_id, fire_at) > ($1, $2) ORDER BY schedule_id, fire_at LIMIT $3) f
LEFT JOIN offload.jobs j ON j.id = f.job_id
LEFT JOIN offload.batches b ON b.id = f.batch_id
ORDER BY f.schedule_id, f.fire_at";

pub(super) const FIRED: &str = "-- offload: audit, jobs of fires
SELECT j.schedule_id, j.id, j.fire_at, j.batch_id, f.schedule_id IS NOT NULL AS recorded, f.job_id, f.batch_id AS fired_batch_id,
       greatest(0, extract(epoch FROM statement_timestamp() - j.created_at) * 1000000)::bigint AS age
FROM (SELECT id, schedule_id, fire_at, batch_id, created_at FROM offload.jobs
      WHERE schedule_id IS NOT NULL AND (schedule_id, id) > ($1, $2) ORDER BY schedule_id, id LIMIT $3) j
LEFT JOIN offload.fires f ON f.schedule_id = j.schedule_id AND f.fire_at = j.fire_at
ORDER BY j.schedule_id, j.id";

pub(super) const LATE: &str = "-- offload: audit, late schedules
SELECT s.id, s.name, s.next_at, s.trouble FROM offload.schedules s
WHERE NOT s.paused AND s.next_at < statement_timestamp() - $1 * interval '1 microsecond' ORDER BY s.next_at LIMIT $2";

/// See [`crate::store::audit::Audit::fires`].
pub(in crate::store::postgres) async fn fires(
    line: &mut Line,
    after: Option<(ScheduleId, DateTime<Utc>)>,
    limit: u32,
) -> Result<Vec<FireUse>> {
    let (schedule, fire_at) = after.unwrap_or((ScheduleId(Uuid::nil()), DateTime::UNIX_EPOCH));
    let statement = sqlx::query(FIRES).bind(schedule.0).bind(fire_at).bind(i64::from(limit));
    let used = |row: &PgRow| {
        Ok(FireUse {
            schedule: ScheduleId(get(row, "schedule_id")?),
            fire_at: get(row, "fire_at")?,
            outcome: parse("outcome", get(row, "outcome")?)?,
            submitted: Submitted::of(get(row, "job_id")?, get(row, "batch_id")?),
            age: Duration::from_micros(get::<i64>(row, "age")?.unsigned_abs()),
            present: get(row, "present")?,
        })
    };
    line.rows(statement).await?.iter().map(used).collect()
}

/// See [`crate::store::audit::Audit::fired`].
pub(in crate::store::postgres) async fn fired(
    line: &mut Line,
    after: Option<(ScheduleId, JobId)>,
    limit: u32,
) -> Result<Vec<FiredJob>> {
    let (schedule, job) = after.unwrap_or((ScheduleId(Uuid::nil()), JobId(Uuid::nil())));
    let statement = sqlx::query(FIRED).bind(schedule.0).bind(job.0).bind(i64::from(limit));
    let fired = |row: &PgRow| {
        let recorded: bool = get(row, "recorded")?;
        let (id, named) = (get(row, "id")?, Submitted::of(get(row, "job_id")?, get(row, "fired_batch_id")?));
        Ok(FiredJob {
            schedule: ScheduleId(get(row, "schedule_id")?),
            job: JobId(id),
            fire_at: get(row, "fire_at")?,
            age: Duration::from_micros(get::<i64>(row, "age")?.unsigned_abs()),
            expected: Submitted::of(None, get(row, "batch_id")?).unwrap_or(Submitted::Job(JobId(id))),
            recorded: recorded.then_some(named),
        })
    };
    line.rows(statement).await?.iter().map(fired).collect()
}

/// See [`crate::store::audit::Audit::late_schedules`].
pub(in crate::store::postgres) async fn late(
    line: &mut Line,
    longer_than: Duration,
    limit: u32,
) -> Result<Vec<LateSchedule>> {
    let statement = sqlx::query(LATE).bind(microseconds(longer_than)).bind(i64::from(limit));
    let late = |row: &PgRow| {
        Ok(LateSchedule {
            id: ScheduleId(get(row, "id")?),
            name: get(row, "name")?,
            next_at: get(row, "next_at")?,
            trouble: get(row, "trouble")?,
        })
    };
    line.rows(statement).await?.iter().map(late).collect()
}
