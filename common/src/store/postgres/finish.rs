//! Ending runs: fenced, and recognised when only the reply was lost.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::connection::{Line, Statement};
use super::consequences;
use super::intake::microseconds;
use super::rows::{get, trail};
use super::runs::bounds;
use crate::job::{Nonce, State};
use crate::store::row::parse;
use crate::store::{Fate, Fence, Finish, Finished, Pointer, Result};

/// Applies transitions. What is not final is not applied against a wish to cancel. A success clears the error of the
/// attempt before; the history keeps it. The end itself is in the row, and not in its trail. Alone it leaves linked rows
/// as they are: their ends have consequences, which belong into the same transaction.
pub(super) const FINISH: &str = concat!(
    "-- offload: finish
UPDATE offload.jobs j
SET state = f.new_state::offload.job_state, epoch = j.epoch + 1, attempt = f.attempt, losses = f.losses,
    worker_id = f.worker_id, run_nonce = f.nonce, result = f.result::json,
    run_at = coalesce(statement_timestamp() + f.delay * interval '1 microsecond', j.run_at),
    queued_at = CASE f.new_state WHEN 'queued' THEN statement_timestamp() ELSE j.queued_at END,
    started_at = CASE WHEN f.claimed THEN j.started_at
                      ELSE statement_timestamp() - f.ran_for * interval '1 microsecond' END,
    finished_at = CASE WHEN f.final THEN statement_timestamp() END,
    error = CASE WHEN f.code IS NOT NULL THEN json_build_object('code', f.code, 'message', f.message,
                          'attempt', f.attempt, 'at', statement_timestamp())
                 WHEN f.new_state <> 'succeeded' THEN j.error END,
    history = CASE WHEN f.code IS NULL THEN j.history
                   ELSE coalesce(j.history, '[]') || jsonb_build_object('attempt', f.attempt, 'code', f.code,
                          'message', f.message, 'worker', f.worker_id, 'ended_at', statement_timestamp(), 'epoch', j.epoch + 1,
                          'started_at', CASE WHEN f.claimed THEN j.started_at
                              ELSE statement_timestamp() - f.ran_for * interval '1 microsecond' END) END,
    trail = CASE WHEN f.final THEN j.trail ELSE ",
    trail!(
        "f.new_state",
        at: "statement_timestamp()",
        run_at: "CASE f.new_state WHEN 'scheduled' THEN
            coalesce(statement_timestamp() + f.delay * interval '1 microsecond', j.run_at) END"
    ),
    " END
FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::uuid[], $5::bigint[], $6::text[], $7::boolean[], $8::integer[],
            $9::integer[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[])
     AS f (id, epoch, claimed, worker_id, nonce, new_state, final, attempt, losses, delay, code, message, result, ran_for)
WHERE j.id = f.id AND j.id BETWEEN $15 AND $16 AND j.epoch = f.epoch
  AND j.state = (CASE WHEN f.claimed THEN 'running' ELSE 'queued' END)::offload.job_state
  AND (f.final OR NOT j.cancel_requested) AND ($17 OR NOT j.linked)
RETURNING j.id, j.epoch, j.state::text, j.run_nonce, j.cancel_requested, j.queued_at, j.linked"
);

/// What the rows say that a finish did not find as it expected them.
pub(super) const FINISHED: &str = "-- offload: finishes that updated nothing
SELECT j.id, j.epoch, j.state::text, j.run_nonce, j.cancel_requested, j.queued_at, j.linked
FROM unnest($1::uuid[]) AS f (id) JOIN offload.jobs j ON j.id = f.id
WHERE j.id BETWEEN $2 AND $3";

/// What a row says after a finish was tried on it.
struct After {
    fence: Fence,
    queued_at: Option<DateTime<Utc>>,
    linked: bool,
}

impl After {
    fn read(row: &PgRow) -> Result<(Uuid, Self)> {
        let fence = Fence {
            epoch: get(row, "epoch")?,
            state: parse("state", get(row, "state")?)?,
            nonce: get::<Option<i64>>(row, "run_nonce")?.map(Nonce),
            cancel_requested: get(row, "cancel_requested")?,
        };
        Ok((get(row, "id")?, Self { fence, queued_at: get(row, "queued_at")?, linked: get(row, "linked")? }))
    }

    /// What became of this finish, whether this call applied it or an earlier one did.
    fn judge(&self, finish: &Finish) -> Finished {
        match self.fence.fate(finish) {
            Fate::Applied => {
                let queued_at = self.queued_at.filter(|_| self.fence.state == State::Queued);
                Finished::Applied(queued_at.map(|at| Pointer {
                    id: finish.lease.job,
                    epoch: self.fence.epoch,
                    queued_at: at.timestamp_micros(),
                }))
            }
            Fate::CancelRequested => Finished::CancelRequested,
            Fate::Lost => Finished::Lost,
        }
    }
}

/// Which rows a finish may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those whose end has no consequences.
    Plain,
    /// All: a transaction is open.
    Linked,
}

/// Ends runs; see [`crate::store::Store::finish`]. Where one is known to be linked, all are written in one transaction with
/// what follows; one that turns out to be is written so in a second try.
pub(super) async fn finish(line: &mut Line, finishes: &[Finish]) -> Result<Vec<Finished>> {
    if finishes.iter().any(|finish| finish.linked) {
        return in_transaction(line, finishes).await;
    }
    let applied = apply(line, finishes, Reach::Plain).await?.0;
    let (mut finished, rows) = complete(line, finishes, applied).await?;
    let held_back = |n: &usize| {
        let finish = &finishes[*n];
        rows.get(&finish.lease.job.0).is_some_and(|row| row.linked && row.fence.takes(finish))
    };
    let held_back: Vec<usize> = (0..finishes.len()).filter(held_back).collect();
    if !held_back.is_empty() {
        let linked: Vec<Finish> = held_back.iter().map(|n| finishes[*n].clone()).collect();
        for (n, outcome) in held_back.into_iter().zip(in_transaction(line, &linked).await?) {
            finished[n] = outcome;
        }
    }
    Ok(finished)
}

async fn in_transaction(line: &mut Line, finishes: &[Finish]) -> Result<Vec<Finished>> {
    line.begin("BEGIN").await?;
    let applied = apply_linked(line, finishes).await?;
    line.commit().await?;
    Ok(complete(line, finishes, applied).await?.0)
}

/// Looks again at the rows of finishes that were not applied.
async fn complete(
    line: &mut Line,
    finishes: &[Finish],
    applied: Vec<Option<Finished>>,
) -> Result<(Vec<Finished>, HashMap<Uuid, After>)> {
    let missing = |(finish, applied): (&Finish, &Option<Finished>)| applied.is_none().then_some(finish.lease.job.0);
    let missing: Vec<Uuid> = finishes.iter().zip(&applied).filter_map(missing).collect();
    let rows = if missing.is_empty() { HashMap::new() } else { read(line, missing).await? };
    let judge = |finish: &Finish| rows.get(&finish.lease.job.0).map_or(Finished::Lost, |row| row.judge(finish));
    let finished = finishes.iter().zip(applied).map(|(finish, applied)| applied.unwrap_or_else(|| judge(finish)));
    Ok((finished.collect(), rows))
}

/// Runs the guarded update within a transaction, with what follows from the ends of linked jobs; `None` where it found no
/// row to update.
pub(super) async fn apply_linked(line: &mut Line, finishes: &[Finish]) -> Result<Vec<Option<Finished>>> {
    let (applied, ended) = apply(line, finishes, Reach::Linked).await?;
    consequences::follow(line, ended).await?;
    Ok(applied)
}

/// Runs the guarded update alone. Answers what it wrote, and which linked jobs it ended.
async fn apply(line: &mut Line, finishes: &[Finish], reach: Reach) -> Result<(Vec<Option<Finished>>, Vec<Uuid>)> {
    let rows = line.rows(statement(finishes, reach)).await?;
    let rows = rows.iter().map(After::read).collect::<Result<HashMap<_, _>>>()?;
    let ended = rows.iter().filter(|(_, row)| row.linked && row.fence.state.is_final()).map(|(id, _)| *id).collect();
    let judge = |finish: &Finish| rows.get(&finish.lease.job.0).map(|row| row.judge(finish));
    Ok((finishes.iter().map(judge).collect(), ended))
}

/// What the row says of a finish that was tried.
pub(super) async fn look_again(line: &mut Line, finish: &Finish) -> Result<Finished> {
    let rows = read(line, vec![finish.lease.job.0]).await?;
    Ok(rows.values().next().map_or(Finished::Lost, |row| row.judge(finish)))
}

async fn read(line: &mut Line, ids: Vec<Uuid>) -> Result<HashMap<Uuid, After>> {
    let (least, greatest) = bounds(&ids);
    let rows = line.rows(sqlx::query(FINISHED).bind(ids).bind(least).bind(greatest)).await?;
    rows.iter().map(After::read).collect()
}

fn statement(finishes: &[Finish], reach: Reach) -> Statement<'static> {
    fn each<'a, T>(finishes: &[&'a Finish], value: impl Fn(&'a Finish) -> T) -> Vec<T> {
        finishes.iter().map(|finish| value(finish)).collect()
    }
    let mut sorted: Vec<&Finish> = finishes.iter().collect();
    sorted.sort_unstable_by_key(|finish| finish.lease.job);
    let ids = each(&sorted, |f| f.lease.job.0);
    let (least, greatest) = bounds(&ids);
    sqlx::query(FINISH)
        .bind(ids)
        .bind(each(&sorted, |f| f.lease.epoch))
        .bind(each(&sorted, |f| f.lease.claimed))
        .bind(each(&sorted, |f| f.lease.worker.0))
        .bind(each(&sorted, |f| f.lease.nonce.0))
        .bind(each(&sorted, |f| f.transition.to.as_str()))
        .bind(each(&sorted, |f| f.transition.to.is_final()))
        .bind(each(&sorted, |f| signed(f.transition.attempt)))
        .bind(each(&sorted, |f| signed(f.transition.losses)))
        .bind(each(&sorted, |f| f.transition.delay.map(microseconds)))
        .bind(each(&sorted, |f| f.transition.failure.as_ref().map(|(code, _)| storable(code))))
        .bind(each(&sorted, |f| f.transition.failure.as_ref().map(|(_, message)| storable(message))))
        .bind(each(&sorted, |f| f.result.as_deref().map(serde_json::value::RawValue::get)))
        .bind(each(&sorted, |f| microseconds(f.ran_for)))
        .bind(least)
        .bind(greatest)
        .bind(reach == Reach::Linked)
}

/// Counts are stored signed.
pub(super) fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Text that a handler made up, as PostgreSQL can keep it: it has no NUL character.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}
