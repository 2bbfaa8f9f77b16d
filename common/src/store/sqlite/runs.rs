//! Runs: how they are claimed, ended and reported on.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Row, SqliteConnection};

use super::error::Result;
use super::fleet::Fleet;
use super::moves::{Move, Run, apply};
use super::rows::{duration_micros, micros, nonce, pointer, run, state, time, trail};
use super::writer::Writer;
use crate::clock;
use crate::job::{Lease, State, Step, WorkerId};
use crate::store::{Claim, Claimed, Fate, Fence, Finish, Finished, Pointer, Report};

pub(super) const CLAIM: &str = concat!(
    "-- claim a queued job
UPDATE offload_jobs
SET state = 'running', epoch = epoch + 1, attempt = attempt + 1, worker_id = ?3, run_nonce = ?4, started_at = ?5,
    progress = NULL, trail = ",
    trail!("json(?6)", unless: "false"),
    "
WHERE id = ?1 AND epoch = ?2 AND state = 'queued'"
);

const CLAIMED_BEFORE: &str = "-- whether an earlier try claimed it
SELECT EXISTS (SELECT 1 FROM offload_jobs
    WHERE id = ?1 AND epoch = ?2 + 1 AND worker_id = ?3 AND run_nonce = ?4 AND state = 'running')";

const STARTED: &str = "-- when a run started
SELECT worker_id, started_at FROM offload_jobs WHERE id = ?1 AND epoch = ?2";

const NOT_MOVED: &str = "-- where a job stands that was not moved
SELECT id, state, epoch, run_nonce, cancel_requested, queued_at FROM offload_jobs WHERE id = ?1";

pub(super) const DECLINE: &str = concat!(
    "-- put a queued job off
UPDATE offload_jobs SET state = 'scheduled', epoch = epoch + 1, run_at = ?3, trail = ",
    trail!("json(?4)", unless: "false"),
    "
WHERE id = ?1 AND epoch = ?2 AND state = 'queued'"
);

pub(super) const HOLDS: &str = "-- whether a lease holds
SELECT EXISTS (SELECT 1 FROM offload_jobs WHERE id = ?1 AND epoch = ?2 AND state = 'running')";

const SET_PROGRESS: &str = "-- write progress
UPDATE offload_jobs SET progress = ?2 WHERE id = ?1";

const INSERT_UTTERANCE: &str = "-- write what a handler said
INSERT INTO offload_logs (job_id, epoch, n, at, level, message, fraction) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING";

/// See [`crate::store::Store::claim`].
pub(super) async fn claim(writer: &Writer, fleet: &Fleet, worker: WorkerId, claims: &[Claim]) -> Result<Vec<Claimed>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let mut turn = writer.turn().await?;
    // Asked within the turn: whoever reaps this worker takes its rows in a later one.
    if !fleet.has(worker) {
        turn.commit().await?;
        return Ok(vec![Claimed::NotAMember; claims.len()]);
    }
    let now = clock::now();
    let mut answers = Vec::with_capacity(claims.len());
    for claim in claims {
        let lease = take(turn.connection(), worker, claim, now).await?;
        answers.push(lease.map_or(Claimed::MovedOn, Claimed::Granted));
    }
    turn.commit().await?;
    Ok(answers)
}

/// Claims one row, or recognises that an earlier try did.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    worker: WorkerId,
    claim: &Claim,
    now: DateTime<Utc>,
) -> Result<Option<Lease>> {
    let bound = |sql| sqlx::query(sql).bind(claim.job.0).bind(claim.epoch).bind(worker.0).bind(claim.nonce.0);
    let started_at = before(now, claim.running_for);
    let step = Step { epoch: claim.epoch + 1, state: State::Running, at: started_at, run_at: None };
    let claim_now = bound(CLAIM).bind(micros(started_at)).bind(serde_json::to_string(&step)?);
    let claimed = claim_now.execute(&mut *connection).await?.rows_affected() == 1;
    let held = claimed || bound(CLAIMED_BEFORE).fetch_one(connection).await?.try_get(0)?;
    let lease = Lease { job: claim.job, epoch: claim.epoch + 1, worker, nonce: claim.nonce, claimed: true };
    Ok(held.then_some(lease))
}

/// See [`crate::store::Store::finish`].
pub(super) async fn finish(writer: &Writer, finishes: &[Finish]) -> Result<Vec<Finished>> {
    if finishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut turn = writer.turn().await?;
    let now = clock::now();
    let mut finished = Vec::with_capacity(finishes.len());
    for finish in finishes {
        finished.push(match end(turn.connection(), finish, now).await? {
            End::Moved(pointer) | End::MovedBefore(pointer) => Finished::Applied(pointer),
            End::CancelRequested => Finished::CancelRequested,
            End::Lost => Finished::Lost,
        });
    }
    turn.commit().await?;
    Ok(finished)
}

/// What became of one finish.
pub(super) enum End {
    /// Written now.
    Moved(Option<Pointer>),
    /// Written by an earlier try.
    MovedBefore(Option<Pointer>),
    /// Not written, see [`Finished::CancelRequested`].
    CancelRequested,
    /// Not written, see [`Finished::Lost`].
    Lost,
}

/// Ends one run.
pub(super) async fn end(connection: &mut SqliteConnection, finish: &Finish, now: DateTime<Utc>) -> Result<End> {
    let Finish { lease, transition, result, ran_for, linked: _ } = finish;
    let from = if lease.claimed { State::Running } else { State::Queued };
    let started_at = match (lease.claimed, &transition.failure) {
        (false, _) => Some(before(now, *ran_for)),
        // The claim wrote it; the history of failed attempts wants to repeat it.
        (true, Some(_)) => started_at(connection, lease).await?,
        (true, None) => None,
    };
    let step = Move {
        job: lease.job,
        from: (from, lease.epoch),
        to: transition,
        run: Some(Run { worker: Some(lease.worker), started_at, nonce: Some(lease.nonce) }),
        result: result.as_ref(),
        now,
    };
    if apply(connection, &step).await? {
        let queued = Pointer { id: lease.job, epoch: lease.epoch + 1, queued_at: micros(now) };
        return Ok(End::Moved((transition.to == State::Queued).then_some(queued)));
    }
    let Some(row) = sqlx::query(NOT_MOVED).bind(lease.job.0).fetch_optional(connection).await? else {
        return Ok(End::Lost);
    };
    let fence = Fence {
        state: state(&row)?,
        epoch: row.try_get("epoch")?,
        nonce: nonce(&row)?,
        cancel_requested: row.try_get("cancel_requested")?,
    };
    Ok(match fence.fate(finish) {
        Fate::Applied => End::MovedBefore((transition.to == State::Queued).then(|| pointer(&row)).transpose()?),
        Fate::CancelRequested => End::CancelRequested,
        Fate::Lost => End::Lost,
    })
}

async fn started_at(connection: &mut SqliteConnection, lease: &Lease) -> Result<Option<DateTime<Utc>>> {
    let found = sqlx::query(STARTED).bind(lease.job.0).bind(lease.epoch).fetch_optional(connection).await?;
    Ok(found.as_ref().map(run).transpose()?.and_then(|(_, started_at)| started_at))
}

/// See [`crate::store::Store::decline`].
pub(super) async fn decline(writer: &Writer, pointers: &[Pointer], delay: Duration) -> Result<()> {
    let mut turn = writer.turn().await?;
    let now = clock::now();
    let run_at = micros(now).saturating_add(duration_micros(delay));
    for pointer in pointers {
        let step = Step { epoch: pointer.epoch + 1, state: State::Scheduled, at: now, run_at: Some(time(run_at)?) };
        sqlx::query(DECLINE)
            .bind(pointer.id.0)
            .bind(pointer.epoch)
            .bind(run_at)
            .bind(serde_json::to_string(&step)?)
            .execute(turn.connection())
            .await?;
    }
    turn.commit().await
}

/// See [`crate::store::Store::report`].
pub(super) async fn report(writer: &Writer, reports: &[Report]) -> Result<()> {
    let mut turn = writer.turn().await?;
    for report in reports {
        let Lease { job, epoch, .. } = report.lease;
        let holds: bool = sqlx::query_scalar(HOLDS).bind(job.0).bind(epoch).fetch_one(turn.connection()).await?;
        if !holds {
            continue;
        }
        if let Some(progress) = report.progress() {
            let progress = serde_json::to_string(progress)?;
            sqlx::query(SET_PROGRESS).bind(job.0).bind(progress).execute(turn.connection()).await?;
        }
        for said in &report.said {
            sqlx::query(INSERT_UTTERANCE)
                .bind(job.0)
                .bind(epoch)
                .bind(said.n)
                .bind(micros(said.at))
                .bind(said.what.level())
                .bind(said.what.text())
                .bind(said.what.fraction())
                .execute(turn.connection())
                .await?;
        }
    }
    turn.commit().await
}

fn before(now: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    let passed = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    now.checked_sub_signed(passed).unwrap_or(DateTime::UNIX_EPOCH)
}
