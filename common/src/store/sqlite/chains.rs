//! Jobs that run after others.
//!
//! The end of a parent is noted by one row ([`consequences`](super::consequences)), however many jobs follow it; those are told
//! of it by [`release`], a page at a time.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::SqliteStore;
use super::error::{Failure as Refusal, Result};
use super::intake::FIRST_EPOCH;
use super::moves::{Move, apply};
use super::rows::{error_of, hex_list, job_id, number, time};
use crate::clock;
use crate::job::transition::{Decision, Event, Failure, Snapshot, Transition, decide};
use crate::job::{After, AfterPolicy, Attempt, Epoch, JobId, NewJob, State, Step};
use crate::retry::RetryPolicy;
use crate::store::row::{json, parse, raw};
use crate::store::{self, Chains, ParentEnd, Released};

/// 9999-12-31T00:00:00Z.
const END_OF_TIME: i64 = 253_402_214_400_000_000;

const NAME_PARENTS: &str = "-- name the parents of a job
INSERT INTO offload_job_parents (job_id, place, parent_id) SELECT ?1, key, unhex(value) FROM json_each(?2)";

/// A row that this very transaction inserted.
const WAIT: &str = "-- have a job wait for its parents
UPDATE offload_jobs SET parents = ?2, after_policy = ?3, not_before = run_at, run_at = ?4, trail = ?5 WHERE id = ?1";

pub(super) const KNOWN: &str = "-- which jobs there are
SELECT id FROM offload_jobs WHERE tenant = ?1 AND id IN (SELECT unhex(value) FROM json_each(?2))";

const FOLLOW: &str = "-- parents are followed
UPDATE offload_jobs SET followed = 1, linked = 1
WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND state IN ('scheduled', 'queued', 'running')";

/// What ended before it was followed.
const ENDED_BEFORE: &str = "-- parents that had ended already
INSERT INTO offload_ended_parents (parent_id, state)
SELECT id, state FROM offload_jobs
WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND state IN ('succeeded', 'failed', 'cancelled')";

const ENDED: &str = "-- a parent has ended
INSERT INTO offload_ended_parents (parent_id, state) SELECT id, state FROM offload_jobs WHERE id = ?1 AND followed";

const LOOK: &str = "-- have parents ended
SELECT EXISTS (SELECT 1 FROM offload_ended_parents)";

pub(super) const UNTOLD: &str = "-- jobs that have not been told of the ends of their parents
SELECT DISTINCT p.job_id, p.place, p.parent_id, e.state
FROM (SELECT * FROM offload_ended_parents ORDER BY n LIMIT ?1) AS e
JOIN offload_job_parents AS p ON p.parent_id = e.parent_id AND p.outcome IS NULL LIMIT ?2";

pub(super) const TELL: &str = "-- tell a job of the end of a parent
UPDATE offload_job_parents SET outcome = ?3 WHERE job_id = ?1 AND place = ?2";

pub(super) const FORGET: &str = "-- parents that all have been told of
DELETE FROM offload_ended_parents
WHERE n IN (SELECT n FROM offload_ended_parents ORDER BY n LIMIT ?1) AND NOT EXISTS
    (SELECT 1 FROM offload_job_parents AS p WHERE p.parent_id = offload_ended_parents.parent_id AND p.outcome IS NULL)";

pub(super) const CHILD: &str = "-- read a job that waits for its parents
SELECT state, epoch, attempt, max_attempts, losses, cancel_requested, after_policy, not_before,
    EXISTS (SELECT 1 FROM offload_job_parents AS p WHERE p.job_id = ?1 AND p.outcome IS NULL) AS untold
FROM offload_jobs WHERE id = ?1 AND not_before IS NOT NULL";

pub(super) const PARENTS: &str = "-- what became of parents
SELECT parent_id, outcome, text IS NOT NULL AND bytes > ?2 AS left_out, CASE WHEN bytes <= ?2 THEN text END AS text
FROM (SELECT *, sum(length(CAST(coalesce(text, '') AS BLOB))) OVER (ORDER BY place) AS bytes
      FROM (SELECT p.parent_id, p.place, p.outcome,
                CASE p.outcome WHEN 'succeeded' THEN j.result ELSE j.history -> '$[#-1]' END AS text
            FROM offload_job_parents AS p LEFT JOIN offload_jobs AS j ON j.id = p.parent_id
            WHERE p.job_id = ?1 AND p.outcome IS NOT NULL))
ORDER BY place";

/// Ends of parents that one pass looks at.
const ENDS: u32 = 1000;

/// Which of these jobs there are none of.
pub(super) async fn unknown(connection: &mut SqliteConnection, tenant: &str, jobs: &[JobId]) -> Result<Vec<JobId>> {
    let ids = hex_list(jobs.iter().map(|job| job.0));
    let rows = sqlx::query(KNOWN).bind(tenant).bind(ids).fetch_all(connection).await?;
    let known = rows.iter().map(job_id).collect::<Result<HashSet<_>>>()?;
    Ok(jobs.iter().filter(|job| !known.contains(job)).copied().collect())
}

/// Has a job wait for its parents, which are there, in the transaction that inserts it.
pub(super) async fn tie(connection: &mut SqliteConnection, job: &NewJob, now: DateTime<Utc>) -> Result<()> {
    let Some(After { jobs, policy }) = &job.after else { return Ok(()) };
    let parents = hex_list(jobs.iter().map(|parent| parent.0));
    sqlx::query(NAME_PARENTS).bind(job.id.0).bind(&parents).execute(&mut *connection).await?;
    let trail = [Step { epoch: FIRST_EPOCH, state: State::Scheduled, at: now, run_at: None }];
    sqlx::query(WAIT)
        .bind(job.id.0)
        .bind(i64::try_from(jobs.len()).unwrap_or(i64::MAX))
        .bind(policy.as_str())
        .bind(END_OF_TIME)
        .bind(serde_json::to_string(&trail)?)
        .execute(&mut *connection)
        .await?;
    sqlx::query(FOLLOW).bind(&parents).execute(&mut *connection).await?;
    sqlx::query(ENDED_BEFORE).bind(&parents).execute(connection).await?;
    Ok(())
}

/// Notes the end of a linked job if it is followed, in the very transaction that ended it.
pub(super) async fn ended(connection: &mut SqliteConnection, job: JobId) -> Result<()> {
    sqlx::query(ENDED).bind(job.0).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Chains for SqliteStore {
    async fn unknown(&self, tenant: &str, jobs: &[JobId]) -> store::Result<Vec<JobId>> {
        let mut reader = self.readers.acquire().await.map_err(Refusal::from)?;
        Ok(unknown(&mut reader, tenant, jobs).await?)
    }

    async fn release(&self, limit: u32) -> store::Result<Released> {
        Ok(release(self, limit).await?)
    }

    async fn parents(&self, job: JobId, bytes: u64) -> store::Result<Vec<ParentEnd>> {
        Ok(parents(self, job, bytes).await?)
    }
}

async fn release(store: &SqliteStore, limit: u32) -> Result<Released> {
    if !sqlx::query_scalar::<_, bool>(LOOK).fetch_one(&store.readers).await? {
        return Ok(Released::default());
    }
    let mut turn = store.writer.turn().await?;
    let now = clock::now();
    let untold = sqlx::query(UNTOLD).bind(ENDS).bind(limit).fetch_all(turn.connection()).await?;
    let mut released = Released { more: !untold.is_empty(), ..Released::default() };
    let mut children: BTreeMap<Uuid, Vec<(JobId, State)>> = BTreeMap::new();
    for row in &untold {
        let (child, came_to): (Uuid, &str) = (row.try_get("job_id")?, row.try_get("state")?);
        let tell = sqlx::query(TELL).bind(child).bind(row.try_get::<i64, _>("place")?).bind(came_to);
        tell.execute(turn.connection()).await?;
        children.entry(child).or_default().push((JobId(row.try_get("parent_id")?), parse("state", came_to)?));
    }
    sqlx::query(FORGET).bind(ENDS).execute(turn.connection()).await?;
    for (child, ends) in children {
        match judge(turn.connection(), JobId(child), &ends, now).await? {
            Some(State::Cancelled) => released.cancelled.push(JobId(child)),
            Some(_) => released.proceeded += 1,
            None => {}
        }
    }
    turn.commit().await?;
    Ok(released)
}

/// Moves a job that was told of these ends, if that is due; answers where to.
async fn judge(
    connection: &mut SqliteConnection,
    child: JobId,
    ends: &[(JobId, State)],
    now: DateTime<Utc>,
) -> Result<Option<State>> {
    let Some(row) = sqlx::query(CHILD).bind(child.0).fetch_optional(&mut *connection).await? else { return Ok(None) };
    let policy: AfterPolicy = parse("after_policy", row.try_get("after_policy")?)?;
    let forsaken: Option<Failure> = ends.iter().find_map(|(parent, came_to)| policy.forsakes(*parent, *came_to));
    let event = match forsaken {
        Some(failure) => Event::Forsake(failure),
        None if row.try_get("untold")? => return Ok(None),
        None => Event::Proceed,
    };
    let job = Snapshot {
        state: State::Scheduled,
        attempt: number(&row, "attempt")?,
        max_attempts: number(&row, "max_attempts")?,
        losses: number(&row, "losses")?,
        cancel_requested: row.try_get("cancel_requested")?,
        waits: true,
    };
    let Ok(Decision::Move(to)) = decide(&job, &event, &RetryPolicy::default(), 0.0) else { return Ok(None) };
    // Due when it was to run at the earliest, if that is yet to come.
    let not_before = time(row.try_get("not_before")?)?;
    let delay = (to.to == State::Scheduled).then(|| (not_before - now).to_std().unwrap_or_default());
    let (to, epoch): (_, Epoch) = (Transition { delay, ..to }, row.try_get("epoch")?);
    let step = Move { job: child, from: (State::Scheduled, epoch), to: &to, run: None, result: None, now };
    Ok(apply(connection, &step).await?.then_some(to.to))
}

async fn parents(store: &SqliteStore, job: JobId, bytes: u64) -> Result<Vec<ParentEnd>> {
    let most = i64::try_from(bytes).unwrap_or(i64::MAX);
    let rows = sqlx::query(PARENTS).bind(job.0).bind(most).fetch_all(&store.readers).await?;
    rows.iter().map(parent_end).collect()
}

fn parent_end(row: &SqliteRow) -> Result<ParentEnd> {
    let text: Option<String> = row.try_get("text")?;
    let state = parse("outcome", row.try_get("outcome")?)?;
    let (result, failure) = if state == State::Succeeded { (text, None) } else { (None, text) };
    let error = failure.map(|text| json::<Attempt>("history", &text)).transpose()?;
    Ok(ParentEnd {
        job: JobId(row.try_get("parent_id")?),
        state,
        result: result.map(|text| raw("result", text)).transpose()?,
        error: error.as_ref().map(error_of),
        left_out: row.try_get("left_out")?,
    })
}
