//! Between rows and the domain.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::error::Result;
use crate::RawJson;
use crate::job::{Attempt, ErrorInfo, Job, JobId, Lane, Nonce, Parents, State, WorkerId};
use crate::store::row::{count, json, milliseconds, parse, raw};
use crate::store::{Candidate, Error, FileRecord, Pointer};

/// A point in time as it is stored.
pub(super) fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// A duration as it is stored; one beyond 292,000 years is cut to that.
pub(super) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A stored point in time.
pub(super) fn time(micros: i64) -> Result<DateTime<Utc>> {
    let time = DateTime::from_timestamp_micros(micros);
    time.ok_or_else(|| Error::Corrupt(format!("{micros} is not a point in time")).into())
}

pub(super) fn optional_time(micros: Option<i64>) -> Result<Option<DateTime<Utc>>> {
    micros.map(time).transpose()
}

fn word<T>(row: &SqliteRow, column: &str) -> Result<T>
where
    T: FromStr<Err: Display>,
{
    Ok(parse(column, row.try_get(column)?)?)
}

/// A column that holds a count.
pub(super) fn number(row: &SqliteRow, column: &str) -> Result<u32> {
    Ok(count(column, row.try_get(column)?)?)
}

/// A column that holds JSON which the store wrote itself.
pub(super) fn document<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T> {
    Ok(json(column, row.try_get(column)?)?)
}

fn optional_raw(row: &SqliteRow, column: &str) -> Result<Option<RawJson>> {
    let text: Option<String> = row.try_get(column)?;
    Ok(text.map(|text| raw(column, text)).transpose()?)
}

/// Columns `queue` and `priority`.
pub(super) fn lane(row: &SqliteRow) -> Result<Lane> {
    Ok(Lane { queue: row.try_get("queue")?, priority: word(row, "priority")? })
}

/// Column `state`.
pub(super) fn state(row: &SqliteRow) -> Result<State> {
    word(row, "state")
}

/// Column `id`.
pub(super) fn job_id(row: &SqliteRow) -> Result<JobId> {
    Ok(JobId(row.try_get("id")?))
}

/// Columns `id`, `epoch`, `queued_at`.
pub(super) fn pointer(row: &SqliteRow) -> Result<Pointer> {
    Ok(Pointer { id: job_id(row)?, epoch: row.try_get("epoch")?, queued_at: row.try_get("queued_at")? })
}

/// Column `run_nonce`.
pub(super) fn nonce(row: &SqliteRow) -> Result<Option<Nonce>> {
    Ok(row.try_get::<Option<i64>, _>("run_nonce")?.map(Nonce))
}

/// Columns `worker_id` and `started_at`: who runs or last ran it, since when.
pub(super) fn run(row: &SqliteRow) -> Result<(Option<WorkerId>, Option<DateTime<Utc>>)> {
    let worker: Option<Uuid> = row.try_get("worker_id")?;
    Ok((worker.map(WorkerId), optional_time(row.try_get("started_at")?)?))
}

/// What [`candidate`] reads.
macro_rules! candidate_columns {
    () => {
        "id, tenant, kind, queue, priority, state, epoch, attempt, max_attempts, losses, cancel_requested, timeout_ms, \
         retry_policy, payload, created_at, queued_at, traceparent, linked, followed, parents IS NOT NULL AS has_parents"
    };
}
pub(super) use candidate_columns;

/// A row right before its start. One that was never queued counts as queued when it was accepted.
pub(super) fn candidate(row: &SqliteRow) -> Result<Candidate> {
    let created_at = time(row.try_get("created_at")?)?;
    Ok(Candidate {
        id: job_id(row)?,
        tenant: row.try_get("tenant")?,
        kind: row.try_get("kind")?,
        lane: lane(row)?,
        state: state(row)?,
        epoch: row.try_get("epoch")?,
        attempt: number(row, "attempt")?,
        max_attempts: number(row, "max_attempts")?,
        losses: number(row, "losses")?,
        cancel_requested: row.try_get("cancel_requested")?,
        timeout: milliseconds("timeout_ms", row.try_get("timeout_ms")?)?,
        retry_policy: document(row, "retry_policy")?,
        payload: raw("payload", row.try_get("payload")?)?,
        created_at,
        queued_at: optional_time(row.try_get("queued_at")?)?.unwrap_or(created_at),
        traceparent: row.try_get("traceparent")?,
        linked: row.try_get("linked")?,
        followed: row.try_get("followed")?,
        has_parents: row.try_get("has_parents")?,
    })
}

/// What [`job`] reads.
macro_rules! job_columns {
    () => {
        "id, tenant, kind, queue, priority, state, epoch, attempt, max_attempts, losses, cancel_requested, progress, \
         created_at, run_at, queued_at, started_at, finished_at, timeout_ms, payload, result, history, metadata, tags, \
         batch_id, schedule_id, fire_at, retry_of, worker_id, unique_key, parents, after_policy, not_before, \
         CASE WHEN not_before IS NOT NULL THEN (SELECT count(*) FROM offload_job_parents AS p \
             WHERE p.job_id = offload_jobs.id AND p.outcome IS NULL) END AS waits_for, \
         CASE WHEN parents IS NOT NULL THEN (SELECT json_group_array(hex(parent_id)) FROM (SELECT p.parent_id \
             FROM offload_job_parents AS p WHERE p.job_id = offload_jobs.id ORDER BY p.place LIMIT 100)) END AS first_parents"
    };
}
pub(super) use job_columns;

/// The trail, with the state that this very update makes; see [`crate::job::Trail`].
macro_rules! trail {
    ($step:literal, unless: $unless:literal) => {
        concat!(
            "CASE WHEN ",
            $unless,
            " OR json_array_length(coalesce(trail, '[]')) >= 500 THEN trail
        ELSE json_insert(coalesce(trail, '[]'), '$[#]', ",
            $step,
            ") END"
        )
    };
}
pub(super) use trail;

/// A job as clients see it, read at `now`.
pub(super) fn job(row: &SqliteRow, now: i64) -> Result<Job> {
    let state = state(row)?;
    let run_at: i64 = row.try_get("run_at")?;
    let history: Vec<Attempt> = document(row, "history")?;
    let (worker, started_at) = run(row)?;
    Ok(Job {
        id: job_id(row)?,
        tenant: row.try_get("tenant")?,
        kind: row.try_get("kind")?,
        lane: lane(row)?,
        state,
        epoch: row.try_get("epoch")?,
        attempt: number(row, "attempt")?,
        max_attempts: number(row, "max_attempts")?,
        losses: number(row, "losses")?,
        cancel_requested: row.try_get("cancel_requested")?,
        progress: row.try_get::<Option<&str>, _>("progress")?.map(|text| json("progress", text)).transpose()?,
        created_at: time(row.try_get("created_at")?)?,
        run_at: time(row.try_get::<Option<i64>, _>("not_before")?.unwrap_or(run_at))?,
        due: run_at <= now,
        queued_at: optional_time(row.try_get("queued_at")?)?,
        started_at,
        finished_at: optional_time(row.try_get("finished_at")?)?,
        timeout: milliseconds("timeout_ms", row.try_get("timeout_ms")?)?,
        payload: raw("payload", row.try_get("payload")?)?,
        result: optional_raw(row, "result")?,
        error: history.last().filter(|_| state != State::Succeeded).map(error_of),
        history,
        metadata: optional_raw(row, "metadata")?,
        tags: document(row, "tags")?,
        batch_id: row.try_get("batch_id")?,
        schedule_id: row.try_get("schedule_id")?,
        fire_at: optional_time(row.try_get("fire_at")?)?,
        retry_of: row.try_get::<Option<Uuid>, _>("retry_of")?.map(JobId),
        worker,
        unique_key: row.try_get("unique_key")?,
        parents: parents(row)?,
    })
}

fn parents(row: &SqliteRow) -> Result<Option<Parents>> {
    let Some(total) = row.try_get::<Option<i64>, _>("parents")? else { return Ok(None) };
    let first: Vec<Uuid> = document(row, "first_parents")?;
    Ok(Some(Parents {
        total: count("parents", total)?,
        waiting: count("waits_for", row.try_get::<Option<i64>, _>("waits_for")?.unwrap_or(0))?,
        policy: word(row, "after_policy")?,
        first: first.into_iter().map(JobId).collect(),
    }))
}

/// The failure of an attempt.
pub(super) fn error_of(last: &Attempt) -> ErrorInfo {
    ErrorInfo { code: last.code.clone(), message: last.message.clone(), attempt: last.attempt, at: last.ended_at }
}

/// A file's record.
pub(super) fn file(row: &SqliteRow) -> Result<FileRecord> {
    Ok(FileRecord {
        id: crate::job::FileId(row.try_get("id")?),
        tenant: row.try_get("tenant")?,
        content_type: row.try_get("content_type")?,
        bytes: row.try_get::<i64, _>("bytes")?.unsigned_abs(),
        sha256: row.try_get("sha256")?,
        created_at: time(row.try_get("created_at")?)?,
    })
}

/// Ids as a JSON array of hex strings, for `id IN (SELECT unhex(value) FROM json_each(?))`: one prepared statement for
/// any number of them.
pub(super) fn hex_list(ids: impl IntoIterator<Item = Uuid>) -> String {
    let hex: Vec<String> = ids.into_iter().map(|id| id.simple().to_string()).collect();
    string_list(&hex)
}

/// Strings as a JSON array, for `name IN (SELECT value FROM json_each(?))`.
pub(super) fn string_list(strings: &[String]) -> String {
    serde_json::Value::from(strings).to_string()
}
