//! Accepting jobs: one statement per batch, durable when it answers.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::{Line, State as LineState, Statement};
use super::rows::get;
use super::{callbacks, chains, unique};
use crate::job::{JobId, NewJob};
use crate::store::row::parse;
use crate::store::{Accepted, Dispatch, Error, IdempotencyKey, Pointer, Result};

/// Epochs count from here.
pub(super) const FIRST_EPOCH: i64 = 1;

/// A key that is there already answers what it was used for; its row is locked, so that no pruning comes between. Rows are
/// inserted in order, and `queued_at` sorts them in it. Only what is due later has a trail.
pub(super) const ACCEPT: &str = "-- offload: accept
WITH submitted AS (
    SELECT s.*, statement_timestamp() AS now,
           greatest(coalesce(s.due, statement_timestamp() + s.delay * interval '1 microsecond'), statement_timestamp())
               AS run_at
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bigint[],
                $9::boolean[], $10::integer[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[],
                $16::uuid[], $17::uuid[], $18::timestamptz[], $19::text[], $20::bytea[], $22::boolean[], $23::text[]) WITH ORDINALITY
         AS s (id, tenant, kind, queue, priority, payload, due, delay, admit, max_attempts, timeout_ms, retry_policy,
               metadata, tags, traceparent, retry_of, schedule_id, fire_at, key, fingerprint, linked, unique_key, n)
), keys AS (
    INSERT INTO offload.idempotency_keys AS k (tenant, key, fingerprint, job_id, created_at)
    SELECT tenant, key, fingerprint, id, now FROM submitted WHERE key IS NOT NULL ORDER BY tenant, key
    ON CONFLICT (tenant, key) DO UPDATE SET created_at = k.created_at
    RETURNING tenant, key, fingerprint, job_id
), inserted AS (
    INSERT INTO offload.jobs (id, tenant, kind, queue, priority, state, epoch, max_attempts, created_at, run_at, queued_at,
                              timeout_ms, retry_policy, payload, metadata, tags, traceparent, retry_of, schedule_id, fire_at,
                              trail, linked, unique_key)
    SELECT s.id, s.tenant, s.kind, s.queue, s.priority::offload.job_priority,
           (CASE WHEN s.admit AND s.run_at <= s.now THEN 'queued' ELSE 'scheduled' END)::offload.job_state, $21,
           s.max_attempts, s.now, s.run_at,
           CASE WHEN s.admit AND s.run_at <= s.now THEN s.now + s.n * interval '1 microsecond' END,
           s.timeout_ms, s.retry_policy::json, s.payload::json, s.metadata::json,
           CASE WHEN s.tags IS NULL THEN '{}' ELSE ARRAY(SELECT json_array_elements_text(s.tags::json)) END,
           s.traceparent, s.retry_of, s.schedule_id, s.fire_at,
           CASE WHEN s.run_at > s.now THEN jsonb_build_array(
               jsonb_build_object('epoch', $21::bigint, 'state', 'scheduled', 'at', s.now, 'run_at', s.run_at)) END, s.linked, s.unique_key
    FROM submitted s
    WHERE s.key IS NULL OR s.id IN (SELECT job_id FROM keys)
    ORDER BY s.n
    RETURNING id, state, created_at, run_at, queued_at
)
SELECT id, state::text, created_at, run_at, queued_at, NULL AS tenant, NULL AS key, NULL::bytea AS fingerprint FROM inserted
UNION ALL
SELECT job_id, NULL, NULL, NULL, NULL, tenant, key, fingerprint FROM keys";

/// Accepts jobs; see [`crate::store::Store::accept`]. Only what is kept beside the rows takes a transaction.
pub(super) async fn accept(line: &mut Line, jobs: &[NewJob]) -> Result<Vec<Accepted>> {
    if jobs.iter().all(NewJob::is_plain) {
        return insert(line, &jobs.iter().collect::<Vec<_>>()).await;
    }
    // Rows of jobs are locked before unique keys. Who runs after others locks theirs: not behind keys that it has taken.
    let (unique, others): (Vec<&NewJob>, Vec<&NewJob>) = jobs.iter().partition(|job| job.unique.is_some());
    let mut answers = HashMap::with_capacity(jobs.len());
    if !unique.is_empty() {
        let alone = begin(line).await?;
        answers.extend(unique.iter().map(|job| job.id).zip(unique::accept(line, &unique).await?));
        if alone {
            line.commit().await?;
        }
    }
    accept_tied(line, others, &mut answers).await?;
    jobs.iter().map(|job| answers.remove(&job.id).ok_or_else(|| lost(job))).collect()
}

/// Opens a transaction, unless the caller has one of its own. Answers whether it did.
async fn begin(line: &mut Line) -> Result<bool> {
    let alone = line.state() == LineState::Ready;
    if alone {
        line.begin("BEGIN").await?;
    }
    Ok(alone)
}

/// Accepts jobs of which some may run after others. Where there are none such, nothing is written, and all is begun anew
/// without the jobs that name them.
async fn accept_tied(line: &mut Line, mut jobs: Vec<&NewJob>, answers: &mut HashMap<JobId, Accepted>) -> Result<()> {
    while !jobs.is_empty() {
        let alone = begin(line).await?;
        let accepted = write(line, &jobs).await?;
        let new = |(_, accepted): &(&&NewJob, &Accepted)| matches!(accepted, Accepted::New { .. });
        let mut parents = chains::Named::default();
        parents.add(line, jobs.iter().zip(&accepted).filter(new).map(|(job, _)| *job)).await?;
        let unknown = parents.tie(line).await?;
        if unknown.is_empty() {
            answers.extend(jobs.iter().map(|job| job.id).zip(accepted));
            return if alone { line.commit().await } else { Ok(()) };
        }
        line.rollback().await?;
        jobs.retain(|job| {
            let named = job.after.iter().flat_map(|after| &after.jobs);
            let missing: Vec<JobId> = named.filter(|parent| unknown.contains(parent)).copied().collect();
            let known = missing.is_empty();
            if !known {
                answers.insert(job.id, Accepted::Orphan(missing));
            }
            known
        });
    }
    Ok(())
}

/// Writes jobs with what is kept beside their rows, in a transaction that is open.
pub(super) async fn write(line: &mut Line, jobs: &[&NewJob]) -> Result<Vec<Accepted>> {
    let accepted = insert(line, jobs).await?;
    let new = |(_, accepted): &(&&NewJob, &Accepted)| matches!(accepted, Accepted::New { .. });
    callbacks::keep_of_jobs(line, jobs.iter().zip(&accepted).filter(new).map(|(job, _)| *job)).await?;
    Ok(accepted)
}

async fn insert(line: &mut Line, jobs: &[&NewJob]) -> Result<Vec<Accepted>> {
    // A key is written once per batch; its later uses are held against what became of the first.
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    let mut written: Vec<&NewJob> = Vec::with_capacity(jobs.len());
    for job in jobs.iter().copied() {
        if job.idempotency.as_ref().is_none_or(|key| seen.insert((&job.tenant, &key.key))) {
            written.push(job);
        }
    }

    let rows = line.rows(statement(&written)).await?;
    let mut inserted: HashMap<Uuid, &PgRow> = HashMap::with_capacity(rows.len());
    let mut keys: HashMap<(&str, &str), &PgRow> = HashMap::new();
    for row in &rows {
        match get::<Option<&str>>(row, "tenant")? {
            Some(tenant) => keys.insert((tenant, get(row, "key")?), row),
            None => inserted.insert(get(row, "id")?, row),
        };
    }
    jobs.iter()
        .map(|job| match (inserted.get(&job.id.0), &job.idempotency) {
            (Some(row), _) => accepted(row, job),
            (None, Some(key)) => {
                let row = keys.get(&(job.tenant.as_str(), key.key.as_str())).ok_or_else(|| lost(job))?;
                repeated(row, "id", key)
            }
            (None, None) => Err(lost(job)),
        })
        .collect()
}

/// A job that the database said nothing of.
pub(super) fn lost(job: &NewJob) -> Error {
    Error::Corrupt(format!("job {} was neither written nor refused", job.id))
}

fn statement(jobs: &[&NewJob]) -> Statement<'static> {
    fn each<'a, T>(jobs: &[&'a NewJob], value: impl Fn(&'a NewJob) -> T) -> Vec<T> {
        jobs.iter().map(|job| value(job)).collect()
    }
    sqlx::query(ACCEPT)
        .bind(each(jobs, |job| job.id.0))
        .bind(each(jobs, |job| job.tenant.as_str()))
        .bind(each(jobs, |job| job.kind.as_str()))
        .bind(each(jobs, |job| job.lane.queue.as_str()))
        .bind(each(jobs, |job| job.lane.priority.as_str()))
        .bind(each(jobs, |job| job.payload.get()))
        .bind(each(jobs, |job| job.run_at))
        .bind(each(jobs, |job| job.delay.map(microseconds)))
        .bind(each(jobs, |job| job.admit))
        .bind(each(jobs, |job| i32::try_from(job.max_attempts).unwrap_or(i32::MAX)))
        .bind(each(jobs, |job| i64::try_from(job.timeout.as_millis()).unwrap_or(i64::MAX)))
        .bind(each(jobs, |job| serde_json::json!(job.retry_policy).to_string()))
        .bind(each(jobs, |job| job.metadata.as_deref().map(serde_json::value::RawValue::get)))
        .bind(each(jobs, |job| (!job.tags.is_empty()).then(|| serde_json::json!(job.tags).to_string())))
        .bind(each(jobs, |job| job.traceparent.as_deref()))
        .bind(each(jobs, |job| job.retry_of.map(|id| id.0)))
        .bind(each(jobs, |job| job.fired_by.map(|fire| fire.schedule.0)))
        .bind(each(jobs, |job| job.fired_by.map(|fire| fire.at)))
        .bind(each(jobs, |job| job.idempotency.as_ref().map(|key| key.key.as_str())))
        .bind(each(jobs, |job| job.idempotency.as_ref().map(|key| key.fingerprint.to_vec())))
        .bind(FIRST_EPOCH)
        .bind(each(jobs, |job| job.is_linked()))
        .bind(each(jobs, |job| job.unique.as_ref().map(|unique| unique.key.as_str())))
}

/// Whole microseconds, as the statements count.
pub(super) fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn accepted(row: &PgRow, job: &NewJob) -> Result<Accepted> {
    let queued_at: Option<DateTime<Utc>> = get(row, "queued_at")?;
    let dispatch = queued_at.map(|at| Dispatch {
        lane: job.lane.clone(),
        pointer: Pointer { id: job.id, epoch: FIRST_EPOCH, queued_at: at.timestamp_micros() },
        traceparent: job.traceparent.clone(),
    });
    Ok(Accepted::New {
        created_at: get(row, "created_at")?,
        run_at: get(row, "run_at")?,
        state: parse("state", get(row, "state")?)?,
        dispatch,
        replaced: None,
    })
}

/// What a key that came before says; its row names the job in this column.
pub(super) fn repeated(row: &PgRow, job: &str, key: &IdempotencyKey) -> Result<Accepted> {
    let fingerprint: &[u8] = get(row, "fingerprint")?;
    if fingerprint == key.fingerprint {
        Ok(Accepted::Repeated(JobId(get::<Uuid>(row, job)?)))
    } else {
        Ok(Accepted::KeyReused)
    }
}
