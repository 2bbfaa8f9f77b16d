//! Reading schedules and the records of their fires.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::job::ScheduleId;
use crate::schedule::{Counts, Schedule, Submitted, Trouble, Verdict};
use crate::store::postgres::connection::Line;
use crate::store::postgres::rows::{get, get_count};
use crate::store::row::{json, parse};
use crate::store::{FireRecord, Result, ScheduleFilter};

/// What [`schedule`] reads, of the table called `s`.
macro_rules! schedule_columns {
    () => {
        "s.id, s.tenant, s.name, s.definition::text, s.version, s.paused, s.anchor, s.next_at, s.last_fire_at, s.last_job_id,
    s.last_batch_id, s.waiting, s.fired, s.caught_up, s.skipped, s.run_now, s.trouble, s.trouble_at, s.created_at, s.updated_at"
    };
}

pub(super) use schedule_columns;

pub(super) const ONE: &str = concat!(
    "-- offload: a schedule\nSELECT ",
    schedule_columns!(),
    " FROM offload.schedules s WHERE s.id = $1 AND s.tenant = $2"
);

pub(super) const LIST: &str = concat!(
    "-- offload: schedules\nSELECT ",
    schedule_columns!(),
    " FROM offload.schedules s WHERE s.tenant = $1 AND ($2::text IS NULL OR s.name = $2) AND s.id < $3
ORDER BY s.id DESC LIMIT $4"
);

pub(super) const FIRES: &str = "-- offload: fires
SELECT f.fire_at, f.through, f.count, f.outcome, f.reason, f.job_id, f.batch_id, f.recorded_at FROM offload.fires f
WHERE f.schedule_id = $1 AND f.fire_at < coalesce($2::timestamptz, 'infinity') ORDER BY f.fire_at DESC LIMIT $3";

/// See [`crate::store::Schedules::schedule`].
pub(super) async fn one(line: &mut Line, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
    let row = line.row(sqlx::query(ONE).bind(id.0).bind(tenant)).await?;
    row.as_ref().map(schedule).transpose()
}

/// See [`crate::store::Schedules::schedules`]. One that cannot be read does not take the others along.
pub(super) async fn list(line: &mut Line, filter: &ScheduleFilter) -> Result<Vec<Schedule>> {
    let statement = sqlx::query(LIST)
        .bind(&filter.tenant)
        .bind(filter.name.as_deref())
        .bind(filter.before.map_or(Uuid::max(), |id| id.0))
        .bind(i64::from(filter.limit));
    let rows = line.rows(statement).await?;
    let readable =
        |row: &PgRow| schedule(row).inspect_err(|error| tracing::error!(%error, "a schedule cannot be read")).ok();
    Ok(rows.iter().filter_map(readable).collect())
}

/// See [`crate::store::Schedules::fires`].
pub(super) async fn fires(
    line: &mut Line,
    schedule: ScheduleId,
    before: Option<DateTime<Utc>>,
    limit: u32,
) -> Result<Vec<FireRecord>> {
    let statement = sqlx::query(FIRES).bind(schedule.0).bind(before).bind(i64::from(limit));
    line.rows(statement).await?.iter().map(record).collect()
}

/// Reads a schedule.
pub(super) fn schedule(row: &PgRow) -> Result<Schedule> {
    let count = |column| -> Result<u64> { Ok(get::<i64>(row, column)?.unsigned_abs()) };
    let trouble: Option<String> = get(row, "trouble")?;
    let trouble_at: Option<DateTime<Utc>> = get(row, "trouble_at")?;
    Ok(Schedule {
        id: ScheduleId(get(row, "id")?),
        tenant: get(row, "tenant")?,
        name: get(row, "name")?,
        definition: json("definition", get(row, "definition")?)?,
        version: get(row, "version")?,
        paused: get(row, "paused")?,
        anchor: get(row, "anchor")?,
        next_at: get(row, "next_at")?,
        last_fire_at: get(row, "last_fire_at")?,
        last: Submitted::of(get(row, "last_job_id")?, get(row, "last_batch_id")?),
        waiting: get_count(row, "waiting")?,
        created_at: get(row, "created_at")?,
        counts: Counts {
            fired: count("fired")?,
            caught_up: count("caught_up")?,
            skipped: count("skipped")?,
            run_now: count("run_now")?,
        },
        trouble: trouble.zip(trouble_at).map(|(message, at)| Trouble { message, at }),
        updated_at: get(row, "updated_at")?,
    })
}

fn record(row: &PgRow) -> Result<FireRecord> {
    Ok(FireRecord {
        verdict: Verdict {
            fire_at: get(row, "fire_at")?,
            through: get(row, "through")?,
            count: get_count(row, "count")?,
            outcome: parse("outcome", get(row, "outcome")?)?,
            reason: get::<Option<&str>>(row, "reason")?.map(|text| parse("reason", text)).transpose()?,
        },
        submitted: Submitted::of(get(row, "job_id")?, get(row, "batch_id")?),
        recorded_at: get(row, "recorded_at")?,
    })
}
