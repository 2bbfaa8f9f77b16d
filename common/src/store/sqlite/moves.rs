//! Applying a decided transition: the one guarded `UPDATE` that moves a job from hand to hand.

use chrono::{DateTime, Utc};
use sqlx::{Row, SqliteConnection};

use super::consequences;
use super::error::Result;
use super::rows::{duration_micros, micros, time, trail};
use crate::RawJson;
use crate::job::transition::Transition;
use crate::job::{Attempt, Epoch, JobId, Nonce, State, Step, WorkerId};

pub(super) const MOVE: &str = concat!(
    "-- move a job
UPDATE offload_jobs
SET state = ?4, epoch = epoch + 1, attempt = ?5, losses = ?6, cancel_requested = 0,
    run_at = coalesce(?7, max(not_before, ?17), run_at), not_before = NULL, queued_at = coalesce(?8, queued_at),
    started_at = coalesce(?9, started_at), finished_at = ?10,
    worker_id = coalesce(?11, worker_id), run_nonce = ?12, result = ?13,
    history = CASE WHEN ?14 IS NULL THEN history ELSE json_insert(history, '$[#]', json(?14)) END,
    trail = ",
    trail!("json(?16)", unless: "?16 IS NULL"),
    "
WHERE id = ?1 AND epoch = ?2 AND state = ?3 AND (NOT cancel_requested OR ?15)
RETURNING linked"
);

/// A transition of one row, and the row that it was decided on.
pub(super) struct Move<'a> {
    pub(super) job: JobId,
    /// The state and epoch that the row must have.
    pub(super) from: (State, Epoch),
    pub(super) to: &'a Transition,
    /// The run that it ends, if one.
    pub(super) run: Option<Run>,
    pub(super) result: Option<&'a RawJson>,
    /// The store's clock.
    pub(super) now: DateTime<Utc>,
}

/// A run of a job by a worker.
pub(super) struct Run {
    pub(super) worker: Option<WorkerId>,
    pub(super) started_at: Option<DateTime<Utc>>,
    /// The nonce to leave in the row, by which the run knows its own write again; `None` where another wrote it.
    pub(super) nonce: Option<Nonce>,
}

/// Moves the row if it is still what was decided on, and, unless this ends the job, no cancel is wished; and does what
/// follows from the end of a linked job. Answers whether it was.
pub(super) async fn apply(connection: &mut SqliteConnection, step: &Move<'_>) -> Result<bool> {
    let Move { job, from: (state, epoch), to, run, result, now } = step;
    let due = to.delay.map(|delay| micros(*now).saturating_add(duration_micros(delay)));
    let started_at = run.as_ref().and_then(|run| run.started_at);
    let worker = run.as_ref().and_then(|run| run.worker);
    let failed = to.failure.as_ref().map(|(code, message)| Attempt {
        attempt: to.attempt,
        code: code.clone(),
        message: message.clone(),
        worker,
        started_at,
        ended_at: *now,
        epoch: epoch + 1,
    });
    // An end is in the row itself.
    let passing = match to.to {
        state if state.is_final() => None,
        // What waited for others and is due looks queued to clients from now on.
        State::Scheduled if *state == State::Scheduled && due <= Some(micros(*now)) => {
            Some(Step { epoch: epoch + 1, state: State::Queued, at: *now, run_at: None })
        }
        State::Scheduled => Some(Step { epoch: epoch + 1, state: to.to, at: *now, run_at: due.map(time).transpose()? }),
        state => Some(Step { epoch: epoch + 1, state, at: *now, run_at: None }),
    };
    let moved = sqlx::query(MOVE)
        .bind(job.0)
        .bind(epoch)
        .bind(state.as_str())
        .bind(to.to.as_str())
        .bind(to.attempt)
        .bind(to.losses)
        .bind(due)
        .bind((to.to == State::Queued).then(|| micros(*now)))
        .bind(started_at.map(micros))
        .bind(to.to.is_final().then(|| micros(*now)))
        .bind(worker.map(|worker| worker.0))
        .bind(run.as_ref().and_then(|run| run.nonce).map(|nonce| nonce.0))
        .bind(result.map(|json| json.get()))
        .bind(failed.map(|attempt| serde_json::to_string(&attempt)).transpose()?)
        .bind(to.to.is_final())
        .bind(passing.map(|step| serde_json::to_string(&step)).transpose()?)
        .bind(micros(*now))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = moved else { return Ok(false) };
    if to.to.is_final() && row.try_get("linked")? {
        consequences::follow(connection, *job, to.to, *now).await?;
    }
    Ok(true)
}
