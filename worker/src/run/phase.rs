//! Where a run stands with its claim: a small machine, so that a claim and a finish can never pass each other.
//!
//! ```text
//! Unclaimed ──> Claiming ──> Claimed ──┐
//!   │   │        │  └──────> Lost      ├──> Finishing
//!   │   └────────┴─────────> Adrift ───┤
//!   └──────────────────────────────────┘
//! ```
//!
//! A claim whose reply is missing stays `Claiming`: it is tried again, with the same nonce, until it is known. Finishing
//! waits for that, since the two would name different epochs. Where nobody tries any more, nobody may wait: a run whose
//! membership is over is `Adrift`, and one whose row is known to have moved on is `Lost`, whatever it was before.

use offload_common::job::Lease;

/// Where a run stands with its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// It runs lazily: the row still says `queued`.
    Unclaimed,
    /// A claim is under way, or its outcome is not known yet.
    Claiming,
    /// The row says `running` under this lease.
    Claimed(Lease),
    /// The membership ended before it was claimed, or before that was known: it never will be. The row may still say
    /// `queued`, and the epoch decides what the end of the run counts for.
    Adrift,
    /// Its end is being written. No claim starts any more.
    Finishing,
    /// The row has moved on: whatever this run does counts for nothing.
    Lost,
}

/// What a run that has ended can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The end of a lazy run, on a row that says `queued`.
    Lazy,
    /// The end of a claimed run.
    Claimed(Lease),
    /// Nothing.
    Lost,
}

impl Phase {
    /// Starts a claim, or tries one again whose outcome is not known. `None` where there is nothing to claim.
    pub(crate) fn claim(self) -> Option<Phase> {
        matches!(self, Phase::Unclaimed | Phase::Claiming).then_some(Phase::Claiming)
    }

    /// The claim's outcome is known.
    pub(crate) fn claimed(self, outcome: Option<Lease>) -> Phase {
        match (self, outcome) {
            (Phase::Claiming, Some(lease)) => Phase::Claimed(lease),
            (Phase::Claiming, None) => Phase::Lost,
            (other, _) => other,
        }
    }

    /// The row is known to have moved on.
    pub(crate) fn superseded(self) -> Phase {
        if self == Phase::Finishing { self } else { Phase::Lost }
    }

    /// The membership is over: no claim is tried any more.
    pub(crate) fn abandoned(self) -> Phase {
        if matches!(self, Phase::Unclaimed | Phase::Claiming) { Phase::Adrift } else { self }
    }

    /// The handler has ended: what the run can write, and the phase that it writes it in. `None` while the outcome of a
    /// claim is not known: ask again after the next change.
    pub(crate) fn finish(self) -> Option<(Phase, Hold)> {
        match self {
            Phase::Unclaimed | Phase::Adrift => Some((Phase::Finishing, Hold::Lazy)),
            Phase::Claiming => None,
            Phase::Claimed(lease) => Some((Phase::Finishing, Hold::Claimed(lease))),
            Phase::Finishing | Phase::Lost => Some((self, Hold::Lost)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::{JobId, Nonce, WorkerId};
    use proptest::prelude::*;

    fn lease() -> Lease {
        Lease {
            job: JobId(uuid::Uuid::nil()),
            epoch: 7,
            worker: WorkerId(uuid::Uuid::nil()),
            nonce: Nonce(1),
            claimed: true,
        }
    }

    #[test]
    fn each_phase_takes_each_step_as_the_drawing_says() {
        use Phase::{Adrift, Claimed, Claiming, Finishing, Lost, Unclaimed};
        let held = Claimed(lease());
        // phase, claim, outcome granted, outcome refused, superseded, abandoned, finish
        let table = [
            (Unclaimed, Some(Claiming), Unclaimed, Unclaimed, Lost, Adrift, Some((Finishing, Hold::Lazy))),
            (Claiming, Some(Claiming), held, Lost, Lost, Adrift, None),
            (held, None, held, held, Lost, held, Some((Finishing, Hold::Claimed(lease())))),
            (Adrift, None, Adrift, Adrift, Lost, Adrift, Some((Finishing, Hold::Lazy))),
            (Finishing, None, Finishing, Finishing, Finishing, Finishing, Some((Finishing, Hold::Lost))),
            (Lost, None, Lost, Lost, Lost, Lost, Some((Lost, Hold::Lost))),
        ];
        for (phase, claim, granted, refused, superseded, abandoned, finish) in table {
            assert_eq!(phase.claim(), claim, "{phase:?} claim");
            assert_eq!(phase.claimed(Some(lease())), granted, "{phase:?} granted");
            assert_eq!(phase.claimed(None), refused, "{phase:?} refused");
            assert_eq!(phase.superseded(), superseded, "{phase:?} superseded");
            assert_eq!(phase.abandoned(), abandoned, "{phase:?} abandoned");
            assert_eq!(phase.finish(), finish, "{phase:?} finish");
        }
    }

    proptest! {
        /// Whatever order claims, answers and the end come in: at most one write is handed out, and it names the epoch
        /// that the row has, unless the membership ended first. A run that is over never waits.
        #[test]
        fn a_claim_and_a_finish_never_pass_each_other(steps in proptest::collection::vec(0u8..6, 0..20)) {
            let mut phase = Phase::Unclaimed;
            let (mut claimed_in_the_row, mut over, mut writes) = (false, false, 0);
            for step in steps {
                match step {
                    0 => if let Some(next) = phase.claim() {
                        prop_assert_eq!(writes, 0, "a claim started after a finish");
                        phase = next;
                    },
                    1 => {
                        claimed_in_the_row |= phase == Phase::Claiming;
                        phase = phase.claimed(Some(lease()));
                    }
                    2 => phase = phase.claimed(None),
                    3 => (phase, over) = (phase.abandoned(), true),
                    4 => (phase, over) = (phase.superseded(), true),
                    _ => if let Some((next, hold)) = phase.finish() {
                        match hold {
                            Hold::Lazy => { prop_assert!(over || !claimed_in_the_row); writes += 1; }
                            Hold::Claimed(_) => { prop_assert!(claimed_in_the_row); writes += 1; }
                            Hold::Lost => {}
                        }
                        phase = next;
                    } else {
                        prop_assert!(!over, "the end waits for an answer that nobody asks for");
                    },
                }
                prop_assert!(writes <= 1);
            }
        }
    }
}
