//! What to do with a delivered pointer, once the row has been read.

use super::{Epoch, State};
use crate::store::Candidate;

/// What a worker does with a delivered pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Run it, and claim it only once it has run for a while.
    RunLazily,
    /// Claim it, then run it.
    ClaimFirst,
    /// Nothing is left to do for this message: acknowledge it.
    Drop,
}

/// Judges a delivered pointer against the row as it was read right before the start.
///
/// `stale` is true for a message that is redelivered or that waited in this process: somebody else may have
/// taken the job meanwhile, so it is claimed first. `repeatable` says whether the kind's effects bear being
/// started twice.
#[must_use]
pub fn judge(row: Option<&Candidate>, epoch: Epoch, stale: bool, repeatable: bool) -> Verdict {
    let Some(row) = row else { return Verdict::Drop };
    if row.state != State::Queued || row.epoch != epoch || row.cancel_requested {
        return Verdict::Drop;
    }
    if stale || !repeatable || row.attempt > 0 || row.losses > 0 || row.max_attempts == 1 {
        Verdict::ClaimFirst
    } else {
        Verdict::RunLazily
    }
}
