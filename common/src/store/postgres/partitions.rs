//! Partitions of jobs and of their log lines: one per day, by the time in the UUIDv7.
//!
//! Rows of a day that has no partition go to the default one, so a partition that is missing costs nothing but the ease
//! of dropping it.

use std::collections::HashSet;

use chrono::{DateTime, Days, NaiveDate, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::Line;
use super::error::Origin;
use super::rows::get;
use crate::store::{Error, Result};

/// How many days ahead there are partitions: maintenance may be away for that long.
const DAYS_AHEAD: u64 = 7;

pub(super) const DAYS: &str = "-- offload: days that have a partition
SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date AS today, substr(c.relname, 6)::date AS day
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'offload.jobs'::regclass AND c.relname ~ '^jobs_[0-9]{8}$'
UNION ALL SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date, NULL
ORDER BY day";

/// What today is at the database, and which days have a partition, oldest first.
pub(super) struct Calendar {
    pub(super) today: NaiveDate,
    pub(super) days: Vec<NaiveDate>,
}

/// The least id of any that were made at or after a time.
pub(super) fn first_id(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(u128::from(milliseconds.min((1 << 48) - 1)) << 80)
}

/// The beginning of a day.
pub(super) fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// What the names of a day's partitions end with.
pub(super) fn suffix(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

/// Looks up which partitions there are.
pub(super) async fn calendar(line: &mut Line) -> Result<Calendar> {
    let rows = line.rows(sqlx::query(DAYS)).await?;
    let today = rows.first().ok_or_else(|| Error::Corrupt("the database does not know the date".into()))?;
    let days = |row: &PgRow| get::<Option<NaiveDate>>(row, "day").transpose();
    Ok(Calendar { today: get(today, "today")?, days: rows.iter().filter_map(days).collect::<Result<_>>()? })
}

/// Makes the partitions of yesterday, today and the days to come. Yesterday's is for ids that were made just before
/// midnight, or by a clock that is behind.
pub(super) async fn prepare(line: &mut Line) -> Result<()> {
    let calendar = calendar(line).await?;
    let there: HashSet<NaiveDate> = calendar.days.into_iter().collect();
    let yesterday = calendar.today - Days::new(1);
    let days = yesterday.iter_days().take(DAYS_AHEAD as usize + 2).filter(|day| !there.contains(day));
    let blocks: String = days.map(create).collect();
    if !blocks.is_empty() {
        line.script(Origin::Offload, format!("{BEGIN};{blocks} COMMIT")).await?;
    }
    Ok(())
}

/// Two processes at it at the same time take turns.
const BEGIN: &str = "-- offload: make partitions
BEGIN; SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock(16716975, 0)";

/// Made apart and then attached, since that lets the traffic go on. It fails where the default partition has rows of that
/// day already; they stay there, and the block leaves the day to it.
fn create(day: NaiveDate) -> String {
    let (name, next) = (suffix(day), day + Days::new(1));
    let (from, to) = (first_id(start_of(day)), first_id(start_of(next)));
    format!(
        "
DO $$
BEGIN
    IF to_regclass('offload.jobs_{name}') IS NULL THEN
        CREATE TABLE offload.jobs_{name} (LIKE offload.jobs INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
            WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05,
                  autovacuum_vacuum_cost_delay = 0);
        ALTER TABLE offload.jobs ATTACH PARTITION offload.jobs_{name} FOR VALUES FROM ('{from}') TO ('{to}');
        CREATE TABLE offload.job_logs_{name} (LIKE offload.job_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
        ALTER TABLE offload.job_logs ATTACH PARTITION offload.job_logs_{name} FOR VALUES FROM ('{from}') TO ('{to}');
    END IF;
EXCEPTION WHEN check_violation THEN
    RAISE WARNING 'the default partition holds jobs of {day} already; they and the rest of that day stay there';
END
$$;"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_id_of_a_time_sorts_below_every_id_made_from_then_on() {
        let at = DateTime::from_timestamp_millis(1_790_000_000_123).expect("a time");
        let first = first_id(at);
        let made_then = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_790_000_000, 123_000_000));
        let made_before = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_790_000_000, 122_999_999));
        assert!(first <= made_then && made_before < first);
        assert_eq!(first_id(DateTime::<Utc>::MIN_UTC), Uuid::nil());
    }
}
