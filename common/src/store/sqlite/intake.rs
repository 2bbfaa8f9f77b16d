//! What the HTTP side writes: jobs, wishes to cancel, records of files.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};

use super::error::Result;
use super::moves::{Move, apply};
use super::rows::{duration_micros, micros, number, state, string_list, time};
use super::unique::{self, Standing};
use super::writer::Writer;
use super::{callbacks, chains};
use crate::clock;
use crate::job::transition::{Decision, Event, Illegal, Snapshot, decide};
use crate::job::{Epoch, JobId, NewJob, State, Step};
use crate::retry::RetryPolicy;
use crate::store::{Accepted, Cancelled, Dispatch, Error, FileRecord, IdempotencyKey, Pointer};

/// The epoch of a row that has just been inserted.
pub(super) const FIRST_EPOCH: Epoch = 1;

const INSERT_JOB: &str = "-- insert a job
INSERT INTO offload_jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, queued_at,
    timeout_ms, retry_policy, payload, metadata, tags, traceparent, retry_of, schedule_id, fire_at, trail, linked, unique_key)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";

pub(super) const INSERT_STREAM: &str = "-- remember a lane and kind
INSERT INTO offload_streams (queue, priority, kind) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

pub(super) const FIND_KEY: &str = "-- find an idempotency key
SELECT fingerprint, job_id FROM offload_idempotency_keys WHERE tenant = ?1 AND key = ?2";

pub(super) const INSERT_KEY: &str = "-- insert an idempotency key
INSERT INTO offload_idempotency_keys (tenant, key, fingerprint, job_id, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";

/// A request that was answered with another job is answered so again.
const LEAD_KEY: &str = "-- lead an idempotency key to another job
UPDATE offload_idempotency_keys SET job_id = ?3 WHERE tenant = ?1 AND key = ?2";

const FORGET_KEY: &str = "-- forget an idempotency key
DELETE FROM offload_idempotency_keys WHERE tenant = ?1 AND key = ?2";

const FIND_JOB: &str = "-- find a job to cancel
SELECT state, epoch, attempt, max_attempts, losses, cancel_requested, not_before IS NOT NULL AS waits
FROM offload_jobs WHERE tenant = ?1 AND id = ?2";

const REQUEST_CANCEL: &str = "-- note the wish to cancel a running job
UPDATE offload_jobs SET cancel_requested = 1 WHERE id = ?1 AND epoch = ?2 AND state = 'running'";

const INSERT_FILE: &str = "-- insert a file
INSERT INTO offload_files (id, tenant, content_type, bytes, sha256, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// See [`crate::store::Store::accept`].
pub(super) async fn accept(writer: &Writer, jobs: &[NewJob]) -> Result<Vec<Accepted>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let mut turn = writer.turn().await?;
    let now = clock::now();
    let mut accepted = Vec::with_capacity(jobs.len());
    for job in jobs {
        accepted.push(accept_one(turn.connection(), job, now).await?);
    }
    turn.commit().await?;
    Ok(accepted)
}

/// Accepts a job within a transaction.
pub(super) async fn accept_one(
    connection: &mut SqliteConnection,
    job: &NewJob,
    now: DateTime<Utc>,
) -> Result<Accepted> {
    if let Some(key) = &job.idempotency
        && let Some(answer) = used_before(connection, job, key).await?
    {
        return Ok(answer);
    }
    if let Some(after) = &job.after {
        let unknown = chains::unknown(connection, &job.tenant, &after.jobs).await?;
        if !unknown.is_empty() {
            return Ok(Accepted::Orphan(unknown));
        }
    }
    if let Some(key) = &job.idempotency {
        remember(connection, job, key, now).await?;
    }
    let Some(key) = &job.unique else {
        let accepted = insert(connection, job, now).await?;
        chains::tie(connection, job, now).await?;
        return Ok(accepted);
    };
    match unique::take(connection, job, key).await? {
        Standing::Takes(had) => match insert(connection, job, now).await? {
            Accepted::New { created_at, run_at, state, dispatch, .. } => {
                Ok(Accepted::New { created_at, run_at, state, dispatch, replaced: had })
            }
            other => Ok(other),
        },
        Standing::Matched(other) => {
            if let Some(key) = &job.idempotency {
                sqlx::query(LEAD_KEY).bind(&job.tenant).bind(&key.key).bind(other.0).execute(connection).await?;
            }
            Ok(Accepted::Matched(other))
        }
        Standing::Held(other) => {
            if let Some(key) = &job.idempotency {
                sqlx::query(FORGET_KEY).bind(&job.tenant).bind(&key.key).execute(connection).await?;
            }
            Ok(Accepted::Held(other))
        }
    }
}

/// What the key was used for before, if it was.
async fn used_before(
    connection: &mut SqliteConnection,
    job: &NewJob,
    key: &IdempotencyKey,
) -> Result<Option<Accepted>> {
    let found = sqlx::query(FIND_KEY).bind(&job.tenant).bind(&key.key).fetch_optional(connection).await?;
    let Some(row) = found else { return Ok(None) };
    let same = row.try_get::<&[u8], _>("fingerprint")? == key.fingerprint;
    let job = JobId(row.try_get("job_id")?);
    Ok(Some(if same { Accepted::Repeated(job) } else { Accepted::KeyReused }))
}

/// Takes the key for this job.
async fn remember(
    connection: &mut SqliteConnection,
    job: &NewJob,
    key: &IdempotencyKey,
    now: DateTime<Utc>,
) -> Result<()> {
    sqlx::query(INSERT_KEY)
        .bind(&job.tenant)
        .bind(&key.key)
        .bind(&key.fingerprint[..])
        .bind(job.id.0)
        .bind(micros(now))
        .execute(connection)
        .await?;
    Ok(())
}

/// Inserts one row.
pub(super) async fn insert(connection: &mut SqliteConnection, job: &NewJob, now: DateTime<Utc>) -> Result<Accepted> {
    let now = micros(now);
    let wanted = match (job.run_at, job.delay) {
        (Some(at), _) => micros(at),
        (None, Some(delay)) => now.saturating_add(duration_micros(delay)),
        (None, None) => now,
    };
    let run_at = wanted.max(now);
    let state = if job.admit && run_at == now { State::Queued } else { State::Scheduled };
    // What is due tells by itself that it was queued from the beginning.
    let trail = match run_at > now {
        true => {
            Some([Step { epoch: FIRST_EPOCH, state: State::Scheduled, at: time(now)?, run_at: Some(time(run_at)?) }])
        }
        false => None,
    };
    sqlx::query(INSERT_STREAM)
        .bind(&job.lane.queue)
        .bind(job.lane.priority.as_str())
        .bind(&job.kind)
        .execute(&mut *connection)
        .await?;
    sqlx::query(INSERT_JOB)
        .bind(job.id.0)
        .bind(&job.tenant)
        .bind(&job.kind)
        .bind(&job.lane.queue)
        .bind(job.lane.priority.as_str())
        .bind(state.as_str())
        .bind(FIRST_EPOCH)
        .bind(job.max_attempts)
        .bind(now)
        .bind(run_at)
        .bind((state == State::Queued).then_some(now))
        .bind(i64::try_from(job.timeout.as_millis()).unwrap_or(i64::MAX))
        .bind(serde_json::to_string(&job.retry_policy)?)
        .bind(job.payload.get())
        .bind(job.metadata.as_ref().map(|json| json.get()))
        .bind(string_list(&job.tags))
        .bind(&job.traceparent)
        .bind(job.retry_of.map(|id| id.0))
        .bind(job.fired_by.map(|fire| fire.schedule.0))
        .bind(job.fired_by.map(|fire| micros(fire.at)))
        .bind(trail.map(|trail| serde_json::to_string(&trail)).transpose()?)
        .bind(job.callback.is_some())
        .bind(job.unique.as_ref().map(|unique| unique.key.as_str()))
        .execute(&mut *connection)
        .await?;
    if let Some(callback) = &job.callback {
        callbacks::keep(connection, job.id.0, &job.tenant, callback).await?;
    }
    let pointer = Pointer { id: job.id, epoch: FIRST_EPOCH, queued_at: now };
    let dispatch = Dispatch { lane: job.lane.clone(), pointer, traceparent: job.traceparent.clone() };
    Ok(Accepted::New {
        created_at: time(now)?,
        run_at: time(run_at)?,
        state,
        dispatch: Some(dispatch).filter(|_| state == State::Queued),
        replaced: None,
    })
}

/// See [`crate::store::Store::cancel`].
pub(super) async fn cancel(writer: &Writer, tenant: &str, id: JobId) -> Result<Option<Cancelled>> {
    let mut turn = writer.turn().await?;
    let answer = cancel_one(turn.connection(), tenant, id).await?;
    turn.commit().await?;
    Ok(answer)
}

/// Cancels a job within a transaction.
pub(super) async fn cancel_one(
    connection: &mut SqliteConnection,
    tenant: &str,
    id: JobId,
) -> Result<Option<Cancelled>> {
    let found = sqlx::query(FIND_JOB).bind(tenant).bind(id.0).fetch_optional(&mut *connection).await?;
    let Some(row) = found else { return Ok(None) };
    let epoch: Epoch = row.try_get("epoch")?;
    let job = Snapshot {
        state: state(&row)?,
        attempt: number(&row, "attempt")?,
        max_attempts: number(&row, "max_attempts")?,
        losses: number(&row, "losses")?,
        cancel_requested: row.try_get("cancel_requested")?,
        waits: row.try_get("waits")?,
    };
    let answer = match decide(&job, &Event::Cancel, &RetryPolicy::default(), 0.0) {
        Ok(Decision::Move(to)) => {
            let from = (job.state, epoch);
            let step = Move { job: id, from, to: &to, run: None, result: None, now: clock::now() };
            apply(connection, &step).await?;
            Cancelled::Now
        }
        Ok(Decision::RequestCancel) => {
            sqlx::query(REQUEST_CANCEL).bind(id.0).bind(epoch).execute(connection).await?;
            Cancelled::Requested
        }
        Err(Illegal(State::Cancelled)) => Cancelled::Now,
        Err(Illegal(state)) => Cancelled::TooLate(state),
    };
    Ok(Some(answer))
}

/// See [`crate::store::Store::add_file`].
pub(super) async fn add_file(writer: &Writer, file: &FileRecord) -> Result<()> {
    let bytes = i64::try_from(file.bytes)
        .map_err(|_| Error::Rejected(format!("a file of {} bytes is longer than can be recorded", file.bytes)))?;
    let mut turn = writer.turn().await?;
    sqlx::query(INSERT_FILE)
        .bind(file.id.0)
        .bind(&file.tenant)
        .bind(&file.content_type)
        .bind(bytes)
        .bind(&file.sha256)
        .bind(micros(file.created_at))
        .execute(turn.connection())
        .await?;
    turn.commit().await
}
