//! Reading schedules and the records of their fires.

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use crate::job::ScheduleId;
use crate::schedule::{Counts, Schedule, Submitted, Trouble, Verdict};
use crate::store::row::{json, parse};
use crate::store::sqlite::error::Result;
use crate::store::sqlite::rows::{micros, number, optional_time, time};
use crate::store::{self, FireRecord, ScheduleFilter};

/// What [`schedule`] reads.
macro_rules! schedule_columns {
    () => {
        "id, tenant, name, definition, version, paused, anchor, next_at, last_fire_at, last_job_id, last_batch_id, waiting, fired, \
         caught_up, skipped, run_now, trouble, trouble_at, created_at, updated_at"
    };
}
pub(super) use schedule_columns;

pub(super) const ONE: &str = concat!(
    "-- read a schedule
SELECT ",
    schedule_columns!(),
    " FROM offload_schedules WHERE id = ?1 AND tenant = ?2"
);

const LIST: &str = concat!(
    "-- list schedules
SELECT ",
    schedule_columns!(),
    " FROM offload_schedules WHERE tenant = ?1 AND (?2 IS NULL OR name = ?2) AND id < ?3 ORDER BY id DESC LIMIT ?4"
);

const FIRES: &str = "-- read the records of fires
SELECT fire_at, through, count, outcome, reason, job_id, batch_id, recorded_at FROM offload_fires
WHERE schedule_id = ?1 AND fire_at < ?2 ORDER BY fire_at DESC LIMIT ?3";

/// See [`store::Schedules::schedule`].
pub(super) async fn one(readers: &SqlitePool, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
    let row = sqlx::query(ONE).bind(id.0).bind(tenant).fetch_optional(readers).await?;
    row.as_ref().map(schedule).transpose()
}

/// The same within a transaction.
pub(super) async fn hold(connection: &mut SqliteConnection, tenant: &str, id: ScheduleId) -> Result<Option<SqliteRow>> {
    Ok(sqlx::query(ONE).bind(id.0).bind(tenant).fetch_optional(connection).await?)
}

/// See [`store::Schedules::schedules`]. One that cannot be read does not take the others along.
pub(super) async fn list(readers: &SqlitePool, filter: &ScheduleFilter) -> Result<Vec<Schedule>> {
    let statement = sqlx::query(LIST)
        .bind(&filter.tenant)
        .bind(&filter.name)
        .bind(filter.before.map_or(Uuid::max(), |id| id.0))
        .bind(filter.limit);
    let readable = |row: &SqliteRow| match schedule(row) {
        Ok(schedule) => Some(schedule),
        Err(failure) => {
            tracing::error!(error = %store::Error::from(failure), "a schedule cannot be read");
            None
        }
    };
    Ok(statement.fetch_all(readers).await?.iter().filter_map(readable).collect())
}

/// See [`store::Schedules::fires`].
pub(super) async fn fires(
    readers: &SqlitePool,
    schedule: ScheduleId,
    before: Option<DateTime<Utc>>,
    limit: u32,
) -> Result<Vec<FireRecord>> {
    let before = before.map_or(i64::MAX, micros);
    let rows = sqlx::query(FIRES).bind(schedule.0).bind(before).bind(limit).fetch_all(readers).await?;
    rows.iter().map(record).collect()
}

/// Reads a schedule.
pub(super) fn schedule(row: &SqliteRow) -> Result<Schedule> {
    let count = |column| -> Result<u64> { Ok(row.try_get::<i64, _>(column)?.unsigned_abs()) };
    let trouble: Option<String> = row.try_get("trouble")?;
    let trouble_at = optional_time(row.try_get("trouble_at")?)?;
    Ok(Schedule {
        id: ScheduleId(row.try_get("id")?),
        tenant: row.try_get("tenant")?,
        name: row.try_get("name")?,
        definition: json("definition", row.try_get("definition")?)?,
        version: row.try_get("version")?,
        paused: row.try_get("paused")?,
        anchor: time(row.try_get("anchor")?)?,
        next_at: optional_time(row.try_get("next_at")?)?,
        last_fire_at: optional_time(row.try_get("last_fire_at")?)?,
        last: Submitted::of(row.try_get("last_job_id")?, row.try_get("last_batch_id")?),
        waiting: number(row, "waiting")?,
        created_at: time(row.try_get("created_at")?)?,
        counts: Counts {
            fired: count("fired")?,
            caught_up: count("caught_up")?,
            skipped: count("skipped")?,
            run_now: count("run_now")?,
        },
        trouble: trouble.zip(trouble_at).map(|(message, at)| Trouble { message, at }),
        updated_at: time(row.try_get("updated_at")?)?,
    })
}

fn record(row: &SqliteRow) -> Result<FireRecord> {
    let reason: Option<&str> = row.try_get("reason")?;
    Ok(FireRecord {
        verdict: Verdict {
            fire_at: time(row.try_get("fire_at")?)?,
            through: time(row.try_get("through")?)?,
            count: number(row, "count")?,
            outcome: parse("outcome", row.try_get("outcome")?)?,
            reason: reason.map(|text| parse("reason", text)).transpose()?,
        },
        submitted: Submitted::of(row.try_get("job_id")?, row.try_get("batch_id")?),
        recorded_at: time(row.try_get("recorded_at")?)?,
    })
}
