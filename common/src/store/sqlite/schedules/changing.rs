//! What clients do to schedules: making, changing, removing them, and running them now.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::firing::record;
use super::reading::{hold, schedule};
use crate::clock;
use crate::job::ScheduleId;
use crate::schedule::{Change, Outcome, Schedule, Submission, Submitted, Verdict};
use crate::store::sqlite::error::Result;
use crate::store::sqlite::rows::micros;
use crate::store::sqlite::writer::Writer;
use crate::store::sqlite::{fill, intake};
use crate::store::{Changed, Error, IdempotencyKey, NewSchedule, Ran, Removed};

const ADD: &str = "-- add a schedule
INSERT INTO offload_schedules (id, tenant, name, definition, version, paused, anchor, next_at, waiting, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?9)";

const BY_NAME: &str = "-- find a schedule by its name
SELECT id FROM offload_schedules WHERE tenant = ?1 AND name = ?2";

const UPDATE: &str = "-- change a schedule
UPDATE offload_schedules
SET name = ?2, definition = ?3, version = ?4, paused = ?5, anchor = ?6, next_at = ?7, updated_at = ?8,
    trouble = NULL, trouble_at = NULL, held_until = NULL
WHERE id = ?1";

const REMOVE: &str = "-- remove a schedule
DELETE FROM offload_schedules WHERE id = ?1";

const LAST: &str = "-- note what a schedule submitted last
UPDATE offload_schedules SET last_job_id = ?2, last_batch_id = ?3, last_fire_at = ?4, run_now = run_now + 1 WHERE id = ?1";

/// See [`crate::store::Schedules::add_schedule`].
pub(super) async fn add(writer: &Writer, new: &NewSchedule) -> Result<Changed> {
    let mut turn = writer.turn().await?;
    let made = Schedule::new(new.id, new.tenant.clone(), new.name.clone(), new.definition.clone(), clock::now());
    let made = made.map_err(|error| Error::Rejected(error.to_string()))?;
    if let Some(taken) = named(turn.connection(), &made).await? {
        turn.rollback().await?;
        return Ok(Changed::NameTaken(taken));
    }
    sqlx::query(ADD)
        .bind(made.id.0)
        .bind(&made.tenant)
        .bind(&made.name)
        .bind(serde_json::to_string(&made.definition)?)
        .bind(made.version)
        .bind(made.paused)
        .bind(micros(made.anchor))
        .bind(made.next_at.map(micros))
        .bind(micros(made.created_at))
        .execute(turn.connection())
        .await?;
    turn.commit().await?;
    Ok(Changed::Done(Box::new(made)))
}

/// See [`crate::store::Schedules::change_schedule`].
pub(super) async fn change(
    writer: &Writer,
    tenant: &str,
    id: ScheduleId,
    expected: Option<i64>,
    change: &Change,
) -> Result<Changed> {
    let mut turn = writer.turn().await?;
    let before = hold(turn.connection(), tenant, id).await?;
    let changed = match before.as_ref().map(schedule).transpose()? {
        None => Changed::Missing,
        Some(before) if expected.is_some_and(|version| version != before.version) => Changed::Conflict(before.version),
        Some(before) => apply(turn.connection(), &before, change).await?,
    };
    match changed {
        Changed::Done(_) => turn.commit().await?,
        _ => turn.rollback().await?,
    }
    Ok(changed)
}

async fn apply(connection: &mut SqliteConnection, before: &Schedule, change: &Change) -> Result<Changed> {
    let after = before.changed(change, clock::now()).map_err(|error| Error::Rejected(error.to_string()))?;
    if let Some(taken) = named(connection, &after).await?.filter(|taken| *taken != after.id) {
        return Ok(Changed::NameTaken(taken));
    }
    sqlx::query(UPDATE)
        .bind(after.id.0)
        .bind(&after.name)
        .bind(serde_json::to_string(&after.definition)?)
        .bind(after.version)
        .bind(after.paused)
        .bind(micros(after.anchor))
        .bind(after.next_at.map(micros))
        .bind(micros(after.updated_at))
        .execute(connection)
        .await?;
    Ok(Changed::Done(Box::new(after)))
}

/// See [`crate::store::Schedules::remove_schedule`].
pub(super) async fn remove(writer: &Writer, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed> {
    let mut turn = writer.turn().await?;
    let row = hold(turn.connection(), tenant, id).await?;
    // Also one that cannot be read can be removed.
    let version: Option<i64> = row.map(|row| row.try_get("version")).transpose()?;
    let removed = match version {
        None => Removed::Missing,
        Some(version) if expected.is_some_and(|expected| expected != version) => Removed::Conflict(version),
        Some(_) => {
            sqlx::query(REMOVE).bind(id.0).execute(turn.connection()).await?;
            Removed::Done
        }
    };
    turn.commit().await?;
    Ok(removed)
}

/// See [`crate::store::Schedules::run_schedule`].
pub(super) async fn run(
    writer: &Writer,
    tenant: &str,
    id: ScheduleId,
    key: Option<&IdempotencyKey>,
    traceparent: Option<&str>,
) -> Result<Option<Ran>> {
    let mut turn = writer.turn().await?;
    let Some(row) = hold(turn.connection(), tenant, id).await? else {
        turn.rollback().await?;
        return Ok(None);
    };
    let schedule = schedule(&row)?;
    let timing = schedule.definition.timing(schedule.anchor).map_err(|error| Error::Rejected(error.to_string()))?;
    // A fire of this very microsecond may be there already.
    let now = clock::now();
    let (mut fire_at, mut submission) = (now, schedule.submission(&timing, now));
    while !reserve(turn.connection(), id, fire_at, submission.id(), now).await? {
        fire_at += TimeDelta::microseconds(1);
        submission = schedule.submission(&timing, fire_at);
    }
    let submission = submission.asked_for(key, traceparent);
    let ran = match &submission {
        Submission::Job(job) => Ran::Job(job.id, intake::accept_one(turn.connection(), job, now).await?),
        Submission::Batch(filling, jobs) => {
            Ran::Batch(filling.batch(), fill::make(turn.connection(), filling, jobs, now).await?)
        }
    };
    if ran.is_new() {
        let (job, batch) = (submission.id().job().map(|id| id.0), submission.id().batch().map(|id| id.0));
        let last = sqlx::query(LAST).bind(id.0).bind(job).bind(batch).bind(micros(fire_at));
        last.execute(turn.connection()).await?;
        turn.commit().await?;
    } else {
        turn.rollback().await?;
    }
    Ok(Some(ran))
}

/// Writes the record of a fire that somebody asked for, unless there is one of that moment.
async fn reserve(
    connection: &mut SqliteConnection,
    id: ScheduleId,
    fire_at: DateTime<Utc>,
    what: Submitted,
    now: DateTime<Utc>,
) -> Result<bool> {
    let verdict = Verdict { fire_at, through: fire_at, count: 1, outcome: Outcome::RunNow, reason: None };
    record(connection, id, &verdict, Some(what), now).await
}

async fn named(connection: &mut SqliteConnection, schedule: &Schedule) -> Result<Option<ScheduleId>> {
    let found = sqlx::query_scalar(BY_NAME).bind(&schedule.tenant).bind(&schedule.name);
    let found: Option<Uuid> = found.fetch_optional(connection).await?;
    Ok(found.map(ScheduleId))
}
