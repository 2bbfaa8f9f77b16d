//! From rows to jobs and candidates.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Origin;
use crate::job::{Job, JobId, Lane, Parents, WorkerId};
use crate::store::row::{count, json, milliseconds, parse, raw};
use crate::store::{Candidate, Result};

/// What [`candidate`] reads, of the table called `j`.
macro_rules! candidate_columns {
    () => {
        "j.id, j.tenant, j.kind, j.queue, j.priority::text, j.state::text, j.epoch, j.attempt, j.max_attempts, j.losses,
    j.cancel_requested, j.timeout_ms, j.retry_policy::text, j.payload::text, j.created_at, j.queued_at, j.traceparent, j.linked,
    j.followed, j.parents IS NOT NULL AS has_parents"
    };
}

/// What [`job`] reads, of the table called `j`.
macro_rules! job_columns {
    () => {
        "j.id, j.tenant, j.kind, j.queue, j.priority::text, j.state::text, j.epoch, j.attempt, j.max_attempts, j.losses,
    j.cancel_requested, j.timeout_ms, j.payload::text, j.created_at, j.queued_at, j.progress::text,
    coalesce(j.not_before, j.run_at) AS run_at, j.run_at <= statement_timestamp() AS due, j.started_at, j.finished_at, j.result::text, j.error::text, j.history::text,
    j.metadata::text, j.tags, j.batch_id, j.schedule_id, j.fire_at, j.retry_of, j.worker_id, j.unique_key,
    j.parents, j.after_policy, CASE WHEN j.not_before IS NOT NULL THEN
        (SELECT count(*) FROM offload.job_parents p WHERE p.job_id = j.id AND p.outcome IS NULL) END AS waits_for,
    CASE WHEN j.parents IS NOT NULL THEN ARRAY(
        SELECT p.parent_id FROM offload.job_parents p WHERE p.job_id = j.id ORDER BY p.place LIMIT 100) END AS first_parents"
    };
}

/// The trail of the table called `j`, with the state that this very update makes; see [`crate::job::Trail`].
macro_rules! trail {
    ($state:literal, at: $at:literal, run_at: $run_at:literal) => {
        concat!(
            "CASE WHEN coalesce(jsonb_array_length(j.trail), 0) < 500
         THEN coalesce(j.trail, '[]') || jsonb_build_object('epoch', j.epoch + 1, 'state', ",
            $state,
            ", 'at', ",
            $at,
            ", 'run_at', ",
            $run_at,
            ") ELSE j.trail END"
        )
    };
}

pub(super) use {candidate_columns, job_columns, trail};

/// Reads a column.
pub(super) fn get<'r, T>(row: &'r PgRow, column: &str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(|error| Origin::Offload.error(error))
}

/// Reads a count.
pub(super) fn get_count(row: &PgRow, column: &str) -> Result<u32> {
    count(column, get::<i32>(row, column)?.into())
}

/// Reads the lane out of `queue` and `priority`.
pub(super) fn get_lane(row: &PgRow) -> Result<Lane> {
    Ok(Lane { queue: get(row, "queue")?, priority: parse("priority", get(row, "priority")?)? })
}

/// Reads a candidate.
pub(super) fn candidate(row: &PgRow) -> Result<Candidate> {
    let created_at = get(row, "created_at")?;
    Ok(Candidate {
        id: JobId(get(row, "id")?),
        tenant: get(row, "tenant")?,
        kind: get(row, "kind")?,
        lane: get_lane(row)?,
        state: parse("state", get(row, "state")?)?,
        epoch: get(row, "epoch")?,
        attempt: get_count(row, "attempt")?,
        max_attempts: get_count(row, "max_attempts")?,
        losses: get_count(row, "losses")?,
        cancel_requested: get(row, "cancel_requested")?,
        timeout: milliseconds("timeout_ms", get(row, "timeout_ms")?)?,
        retry_policy: json("retry_policy", get(row, "retry_policy")?)?,
        payload: raw("payload", get(row, "payload")?)?,
        created_at,
        queued_at: get::<Option<_>>(row, "queued_at")?.unwrap_or(created_at),
        traceparent: get(row, "traceparent")?,
        linked: get(row, "linked")?,
        followed: get(row, "followed")?,
        has_parents: get(row, "has_parents")?,
    })
}

/// Reads a job.
pub(super) fn job(row: &PgRow) -> Result<Job> {
    let text = |column| get::<Option<&str>>(row, column);
    let raw_text = |column| get::<Option<String>>(row, column)?.map(|text| raw(column, text)).transpose();
    Ok(Job {
        id: JobId(get(row, "id")?),
        tenant: get(row, "tenant")?,
        kind: get(row, "kind")?,
        lane: get_lane(row)?,
        state: parse("state", get(row, "state")?)?,
        epoch: get(row, "epoch")?,
        attempt: get_count(row, "attempt")?,
        max_attempts: get_count(row, "max_attempts")?,
        losses: get_count(row, "losses")?,
        cancel_requested: get(row, "cancel_requested")?,
        progress: text("progress")?.map(|text| json("progress", text)).transpose()?,
        created_at: get(row, "created_at")?,
        run_at: get(row, "run_at")?,
        due: get(row, "due")?,
        queued_at: get(row, "queued_at")?,
        started_at: get(row, "started_at")?,
        finished_at: get(row, "finished_at")?,
        timeout: milliseconds("timeout_ms", get(row, "timeout_ms")?)?,
        payload: raw("payload", get(row, "payload")?)?,
        result: raw_text("result")?,
        error: text("error")?.map(|text| json("error", text)).transpose()?,
        history: text("history")?.map_or_else(|| Ok(Vec::new()), |text| json("history", text))?,
        metadata: raw_text("metadata")?,
        tags: get(row, "tags")?,
        batch_id: get(row, "batch_id")?,
        schedule_id: get(row, "schedule_id")?,
        fire_at: get(row, "fire_at")?,
        retry_of: get::<Option<_>>(row, "retry_of")?.map(JobId),
        worker: get::<Option<_>>(row, "worker_id")?.map(WorkerId),
        unique_key: get(row, "unique_key")?,
        parents: parents(row)?,
    })
}

fn parents(row: &PgRow) -> Result<Option<Parents>> {
    let Some(total) = get::<Option<i32>>(row, "parents")? else { return Ok(None) };
    let first: Vec<uuid::Uuid> = get(row, "first_parents")?;
    Ok(Some(Parents {
        total: count("parents", total.into())?,
        waiting: count("waits_for", get::<Option<i64>>(row, "waits_for")?.unwrap_or(0))?,
        policy: parse("after_policy", get(row, "after_policy")?)?,
        first: first.into_iter().map(JobId).collect(),
    }))
}
