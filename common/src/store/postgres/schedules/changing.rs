//! What clients do to schedules: making, changing, removing them, and running them now.

use chrono::{DateTime, TimeDelta, Utc};

use super::firing::{now, record};
use super::reading::{schedule, schedule_columns};
use crate::job::ScheduleId;
use crate::schedule::{Change, Outcome, Schedule, Submission, Submitted, Verdict};
use crate::store::postgres::connection::Line;
use crate::store::postgres::rows::get;
use crate::store::postgres::{fill, intake};
use crate::store::{Changed, Error, IdempotencyKey, NewSchedule, Ran, Removed, Result};

pub(super) const ADD: &str = "-- offload: add a schedule
INSERT INTO offload.schedules (id, tenant, name, definition, version, paused, anchor, next_at, waiting, created_at, updated_at)
VALUES ($1, $2, $3, $4::json, $5, $6, $7, $8, 0, $9, $9)
ON CONFLICT (tenant, name) DO NOTHING";

pub(super) const BY_NAME: &str = "-- offload: a schedule by its name
SELECT s.id FROM offload.schedules s WHERE s.tenant = $1 AND s.name = $2";

/// The row stays locked to the end of the transaction.
pub(super) const HOLD: &str = concat!(
    "-- offload: hold a schedule\nSELECT ",
    schedule_columns!(),
    " FROM offload.schedules s WHERE s.id = $1 AND s.tenant = $2 FOR UPDATE"
);

pub(super) const UPDATE: &str = "-- offload: change a schedule
UPDATE offload.schedules s
SET name = $2, definition = $3::json, version = $4, paused = $5, anchor = $6, next_at = $7, updated_at = $8,
    trouble = NULL, trouble_at = NULL, held_until = NULL
WHERE s.id = $1";

pub(super) const REMOVE: &str = "-- offload: remove a schedule
DELETE FROM offload.schedules s WHERE s.id = $1";

pub(super) const LAST: &str = "-- offload: what a schedule submitted last
UPDATE offload.schedules s SET last_job_id = $2, last_batch_id = $3, last_fire_at = $4, run_now = s.run_now + 1 WHERE s.id = $1";

/// See [`crate::store::Schedules::add_schedule`].
pub(super) async fn add(line: &mut Line, new: &NewSchedule) -> Result<Changed> {
    let now = now(line).await?;
    let made = Schedule::new(new.id, new.tenant.clone(), new.name.clone(), new.definition.clone(), now);
    let made = made.map_err(|error| Error::Rejected(error.to_string()))?;
    let statement = sqlx::query(ADD)
        .bind(made.id.0)
        .bind(&made.tenant)
        .bind(&made.name)
        .bind(definition(&made)?)
        .bind(made.version)
        .bind(made.paused)
        .bind(made.anchor)
        .bind(made.next_at)
        .bind(now);
    if line.execute(statement).await? == 1 {
        return Ok(Changed::Done(Box::new(made)));
    }
    match named(line, &made.tenant, &made.name).await? {
        Some(taken) => Ok(Changed::NameTaken(taken)),
        None => Err(Error::Unavailable("a schedule with that name has just been removed; try again".into())),
    }
}

/// See [`crate::store::Schedules::change_schedule`].
pub(super) async fn change(
    line: &mut Line,
    tenant: &str,
    id: ScheduleId,
    expected: Option<i64>,
    change: &Change,
) -> Result<Changed> {
    line.begin("BEGIN").await?;
    let changed = match hold(line, tenant, id).await? {
        None => Changed::Missing,
        Some(before) if expected.is_some_and(|version| version != before.version) => Changed::Conflict(before.version),
        Some(before) => apply(line, &before, change).await?,
    };
    match changed {
        Changed::Done(_) => line.commit().await?,
        _ => line.rollback().await?,
    }
    Ok(changed)
}

async fn apply(line: &mut Line, before: &Schedule, change: &Change) -> Result<Changed> {
    let after = before.changed(change, now(line).await?).map_err(|error| Error::Rejected(error.to_string()))?;
    if let Some(taken) = named(line, &after.tenant, &after.name).await?.filter(|taken| *taken != after.id) {
        return Ok(Changed::NameTaken(taken));
    }
    let statement = sqlx::query(UPDATE)
        .bind(after.id.0)
        .bind(&after.name)
        .bind(definition(&after)?)
        .bind(after.version)
        .bind(after.paused)
        .bind(after.anchor)
        .bind(after.next_at)
        .bind(after.updated_at);
    line.execute(statement).await?;
    Ok(Changed::Done(Box::new(after)))
}

/// See [`crate::store::Schedules::remove_schedule`].
pub(super) async fn remove(line: &mut Line, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed> {
    line.begin("BEGIN").await?;
    let row = line.row(sqlx::query(HOLD).bind(id.0).bind(tenant)).await?;
    // Also one that cannot be read can be removed.
    let version = row.as_ref().map(|row| get::<i64>(row, "version")).transpose()?;
    let removed = match version {
        None => Removed::Missing,
        Some(version) if expected.is_some_and(|expected| expected != version) => Removed::Conflict(version),
        Some(_) => {
            line.execute(sqlx::query(REMOVE).bind(id.0)).await?;
            Removed::Done
        }
    };
    match removed {
        Removed::Done => line.commit().await?,
        _ => line.rollback().await?,
    }
    Ok(removed)
}

/// See [`crate::store::Schedules::run_schedule`].
pub(super) async fn run(
    line: &mut Line,
    tenant: &str,
    id: ScheduleId,
    key: Option<&IdempotencyKey>,
    traceparent: Option<&str>,
) -> Result<Option<Ran>> {
    line.begin("BEGIN").await?;
    let Some(schedule) = hold(line, tenant, id).await? else {
        line.rollback().await?;
        return Ok(None);
    };
    let timing = schedule.definition.timing(schedule.anchor).map_err(|error| Error::Rejected(error.to_string()))?;
    // A fire of this very microsecond may be there already.
    let mut fire_at = now(line).await?;
    let mut submission = schedule.submission(&timing, fire_at);
    while !reserve(line, id, fire_at, submission.id()).await? {
        fire_at += TimeDelta::microseconds(1);
        submission = schedule.submission(&timing, fire_at);
    }
    let submission = submission.asked_for(key, traceparent);
    let ran = match &submission {
        Submission::Job(job) => {
            let accepted = intake::accept(line, std::slice::from_ref(job)).await?.into_iter().next();
            Ran::Job(job.id, accepted.ok_or_else(|| Error::Corrupt(format!("job {} was not answered", job.id)))?)
        }
        Submission::Batch(filling, jobs) => Ran::Batch(filling.batch(), fill::make(line, filling, jobs).await?),
    };
    if ran.is_new() {
        let (job, batch) = (submission.id().job().map(|id| id.0), submission.id().batch().map(|id| id.0));
        line.execute(sqlx::query(LAST).bind(id.0).bind(job).bind(batch).bind(fire_at)).await?;
        line.commit().await?;
    } else {
        line.rollback().await?;
    }
    Ok(Some(ran))
}

/// Writes the record of a fire that somebody asked for, unless there is one of that moment.
async fn reserve(line: &mut Line, id: ScheduleId, fire_at: DateTime<Utc>, what: Submitted) -> Result<bool> {
    let verdict = Verdict { fire_at, through: fire_at, count: 1, outcome: Outcome::RunNow, reason: None };
    Ok(!record(line, &[(id, &verdict, Some(what))]).await?.is_empty())
}

async fn hold(line: &mut Line, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>> {
    let row = line.row(sqlx::query(HOLD).bind(id.0).bind(tenant)).await?;
    row.as_ref().map(schedule).transpose()
}

/// The schedule that has a name.
pub(super) async fn named(line: &mut Line, tenant: &str, name: &str) -> Result<Option<ScheduleId>> {
    let row = line.row(sqlx::query(BY_NAME).bind(tenant).bind(name)).await?;
    row.map(|row| Ok(ScheduleId(get(&row, "id")?))).transpose()
}

fn definition(schedule: &Schedule) -> Result<String> {
    serde_json::to_string(&schedule.definition).map_err(|error| Error::Rejected(error.to_string()))
}
