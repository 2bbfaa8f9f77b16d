//! Reading jobs, and cancelling them.

use chrono::TimeDelta;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::connection::{Line, State as LineState};
use super::consequences;
use super::partitions::first_id;
use super::rows::{get, job, job_columns};
use crate::job::{Job, JobId, State};
use crate::store::row::parse;
use crate::store::{Cancelled, JobFilter, Result};

pub(super) const JOB: &str =
    concat!("-- offload: job\nSELECT ", job_columns!(), " FROM offload.jobs j WHERE j.id = $1 AND j.tenant = $2");

const JOBS: &str = concat!("-- offload: jobs\nSELECT ", job_columns!(), " FROM offload.jobs j WHERE j.tenant = ");

/// The row is locked while it is judged, so the epoch that it names is the one that it has.
macro_rules! cancelling {
    () => {
        "UPDATE offload.jobs j
SET state = CASE j.state WHEN 'running' THEN j.state ELSE 'cancelled' END,
    epoch = CASE j.state WHEN 'running' THEN j.epoch ELSE j.epoch + 1 END,
    run_at = coalesce(greatest(j.not_before, statement_timestamp()), j.run_at), not_before = NULL,
    finished_at = CASE j.state WHEN 'running' THEN NULL ELSE statement_timestamp() END,
    cancel_requested = j.state = 'running'"
    };
}

/// Not where that ends a linked job.
pub(super) const CANCEL: &str = concat!(
    "-- offload: cancel
",
    cancelling!(),
    "
WHERE j.id = $1 AND j.tenant = $2 AND (j.state = 'running' OR j.state IN ('scheduled', 'queued') AND NOT j.linked)
RETURNING j.state::text"
);

/// Linked or not, in a transaction with what follows.
pub(super) const CANCEL_LINKED: &str = concat!(
    "-- offload: cancel linked jobs
",
    cancelling!(),
    "
WHERE j.id = ANY ($1) AND j.state IN ('scheduled', 'queued', 'running')
RETURNING j.id, j.state::text, j.linked"
);

pub(super) const STATE: &str = "-- offload: state
SELECT j.state::text, j.linked FROM offload.jobs j WHERE j.id = $1 AND j.tenant = $2";

/// Ids carry the clock of the process that made them; rows are stamped by the database's. They differ by less than this.
const CLOCK_DIFFERENCE: TimeDelta = TimeDelta::hours(1);

/// Reads a job; see [`crate::store::Store::job`].
pub(super) async fn read(line: &mut Line, tenant: &str, id: JobId) -> Result<Option<Job>> {
    let row = line.row(sqlx::query(JOB).bind(id.0).bind(tenant)).await?;
    row.as_ref().map(job).transpose()
}

/// Lists jobs; see [`crate::store::Store::jobs`]. Only the conditions that are asked for are in the statement, so that each
/// combination has a plan of its own.
pub(super) async fn list(line: &mut Line, filter: &JobFilter) -> Result<Vec<Job>> {
    let mut sql = QueryBuilder::<Postgres>::new(JOBS);
    sql.push_bind(filter.tenant.clone());
    if let Some(state) = filter.state {
        sql.push(visible(state));
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND j.kind = ").push_bind(kind.clone());
    }
    if let Some(queue) = &filter.queue {
        sql.push(" AND j.queue = ").push_bind(queue.clone());
    }
    if let Some(batch) = filter.batch_id {
        sql.push(" AND j.batch_id = ").push_bind(batch);
    }
    if let Some(schedule) = filter.schedule_id {
        sql.push(" AND j.schedule_id = ").push_bind(schedule);
    }
    if let Some(tag) = &filter.tag {
        sql.push(" AND ").push_bind(tag.clone()).push(" = ANY (j.tags)");
    }
    if let Some(after) = filter.created_after {
        sql.push(" AND j.created_at >= ").push_bind(after);
        sql.push(" AND j.id >= ").push_bind(first_id(after - CLOCK_DIFFERENCE));
    }
    if let Some(before) = filter.created_before {
        sql.push(" AND j.created_at < ").push_bind(before);
        sql.push(" AND j.id < ").push_bind(first_id(before + CLOCK_DIFFERENCE));
    }
    if let Some(before) = filter.before {
        sql.push(" AND j.id < ").push_bind(before.0);
    }
    sql.push(" ORDER BY j.id DESC LIMIT ").push_bind(i64::from(filter.limit));
    line.rows(sql.build()).await?.iter().map(job).collect()
}

/// The condition that a client's state means; see [`Job::visible_state`].
fn visible(state: State) -> &'static str {
    match state {
        State::Scheduled => " AND j.state = 'scheduled' AND (j.run_at > statement_timestamp() OR j.attempt > 0)",
        State::Queued => {
            " AND (j.state = 'queued'
                   OR (j.state = 'scheduled' AND j.run_at <= statement_timestamp() AND j.attempt = 0))"
        }
        State::Running => " AND j.state = 'running'",
        State::Succeeded => " AND j.state = 'succeeded'",
        State::Failed => " AND j.state = 'failed'",
        State::Cancelled => " AND j.state = 'cancelled'",
    }
}

/// Cancels; see [`crate::store::Store::cancel`].
pub(super) async fn cancel(line: &mut Line, tenant: &str, id: JobId) -> Result<Option<Cancelled>> {
    if let Some(row) = line.row(sqlx::query(CANCEL).bind(id.0).bind(tenant)).await? {
        return cancelled(&row).map(Some);
    }
    let Some(row) = line.row(sqlx::query(STATE).bind(id.0).bind(tenant)).await? else { return Ok(None) };
    let state: State = parse("state", get(&row, "state")?)?;
    if get(&row, "linked")? && !state.is_final() {
        // A caller may have a transaction of its own.
        let alone = line.state() == LineState::Ready;
        if alone {
            line.begin("BEGIN").await?;
        }
        let rows = cancel_all(line, vec![id.0]).await?;
        if alone {
            line.commit().await?;
        }
        if let Some((_, cancelled)) = rows.into_iter().next() {
            return Ok(Some(cancelled));
        }
        // It ended in between.
        let Some(row) = line.row(sqlx::query(STATE).bind(id.0).bind(tenant)).await? else { return Ok(None) };
        return too_late(&row).map(Some);
    }
    too_late(&row).map(Some)
}

/// Cancels what is not final of some jobs, linked ones too, in a transaction that is open.
pub(super) async fn cancel_all(line: &mut Line, ids: Vec<Uuid>) -> Result<Vec<(JobId, Cancelled)>> {
    let rows = line.rows(sqlx::query(CANCEL_LINKED).bind(ids)).await?;
    let (mut all, mut ended) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        let (id, cancelled) = (get::<Uuid>(row, "id")?, cancelled(row)?);
        if cancelled == Cancelled::Now && get(row, "linked")? {
            ended.push(id);
        }
        all.push((JobId(id), cancelled));
    }
    consequences::follow(line, ended).await?;
    Ok(all)
}

/// What the update left.
fn cancelled(row: &PgRow) -> Result<Cancelled> {
    match parse("state", get(row, "state")?)? {
        State::Running => Ok(Cancelled::Requested),
        _ => Ok(Cancelled::Now),
    }
}

/// What a row says that the update left alone.
fn too_late(row: &PgRow) -> Result<Cancelled> {
    match parse("state", get(row, "state")?)? {
        State::Cancelled => Ok(Cancelled::Now),
        state => Ok(Cancelled::TooLate(state)),
    }
}
