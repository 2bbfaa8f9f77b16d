//! What holds in every state, between any two, and once everything has come to rest.

use offload_common::job::State;
use offload_common::job::transition::MAX_LOSSES;

use crate::phase::Phase;
use crate::store::{Row, Store, row_of};
use crate::world::{What, World};

/// What does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A handler's writes are there once if its job succeeded, else not at all.
    OneEffectPerSuccess,
    /// A final state stays final.
    FinalStaysFinal,
    /// Whatever changes hands has a new epoch; only a wish to cancel keeps it.
    EpochsGrow,
    /// Of all runs that think they hold a claimed job, one can end it.
    OneLeaseHolds,
    /// Attempts are those that failed, and the one that runs or has ended it.
    WhoPaysIsWhoRan,
    /// No job loses a worker that nobody was found to have lost.
    OnlyTheLostLose,
    /// What a client was told is to be cancelled is not started again.
    AWishToCancelIsKept,
    /// A message goes only once the row shows that it is no longer needed.
    AcknowledgedTooEarly,
    /// If faults stop and upkeep goes on, every job comes to its end, and nothing is left over.
    EverythingEnds,
}

/// Whether the invariants hold in `after`, which one step made of `before`.
pub(crate) fn check(before: &Store, after: &World) -> Result<(), Broken> {
    before.rows.iter().zip(&after.store.rows).try_for_each(|(before, after)| between(before, after))?;
    after.store.rows.iter().try_for_each(|row| within(row, after.marks))?;
    one_lease(after)
}

fn between(before: &Row, after: &Row) -> Result<(), Broken> {
    if before.at == after.at && before.epoch == after.epoch && before.nonce == after.nonce {
        return Ok(());
    }
    if before.at.state.is_final() {
        return Err(Broken::FinalStaysFinal);
    }
    let wish = before.at.cancel_requested != after.at.cancel_requested
        && (before.epoch, before.nonce, before.at.state) == (after.epoch, after.nonce, after.at.state);
    if after.epoch == before.epoch + 1 || wish { Ok(()) } else { Err(Broken::EpochsGrow) }
}

fn within(row: &Row, marks: u32) -> Result<(), Broken> {
    let Row { kind, at, ledger, failures, wished, .. } = row;
    let holds = |holds: bool, broken| if holds { Ok(()) } else { Err(broken) };
    let effects = u8::from(kind.transactional && at.state == State::Succeeded);
    holds(*ledger == effects, Broken::OneEffectPerSuccess)?;
    let paid = match at.state {
        State::Scheduled | State::Queued => at.attempt == *failures,
        State::Running | State::Succeeded => at.attempt == failures + 1,
        State::Failed => {
            let lost = at.losses >= MAX_LOSSES || at.max_attempts == 1 && at.losses > 0;
            at.attempt == *failures && at.attempt == at.max_attempts || at.attempt == failures + 1 && lost
        }
        State::Cancelled => at.attempt == *failures || at.attempt == failures + 1,
    };
    holds(paid && at.attempt <= at.max_attempts, Broken::WhoPaysIsWhoRan)?;
    holds(at.losses <= marks, Broken::OnlyTheLostLose)?;
    let startable = matches!(at.state, State::Scheduled | State::Queued);
    holds(!(*wished && startable), Broken::AWishToCancelIsKept)
}

fn one_lease(world: &World) -> Result<(), Broken> {
    let running = world.processes.iter().flat_map(|process| &process.runs).filter_map(|run| match run.phase {
        Phase::Claimed(lease) => Some(lease),
        _ => None,
    });
    let ending = world.calls.iter().filter_map(|call| match call.what {
        What::Finish { lease, .. } => Some(lease),
        _ => None,
    });
    let mut holding = Vec::new();
    for lease in running.chain(ending).filter(|lease| lease.claimed) {
        let row = &world.store.rows[row_of(lease.job)];
        let held = (lease.job, lease.nonce);
        if row.takes(lease, &world.store.fence(lease.job)) && !holding.contains(&held) {
            if holding.iter().any(|(job, _)| *job == lease.job) {
                return Err(Broken::OneLeaseHolds);
            }
            holding.push(held);
        }
    }
    Ok(())
}

/// Whether everything has come to its end, where nothing is left to do.
pub(crate) fn at_rest(world: &World) -> Result<(), Broken> {
    let idle = world.processes.iter().all(|process| process.inbox.is_empty() && process.runs.is_empty());
    let quiet = world.broker.is_empty() && world.unpublished.is_empty() && world.calls.is_empty();
    let ended = world.store.rows.iter().all(|row| row.at.state.is_final());
    if idle && quiet && ended { Ok(()) } else { Err(Broken::EverythingEnds) }
}
