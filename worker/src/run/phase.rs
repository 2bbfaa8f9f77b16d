//! Where a run stands with its claim: a small machine, so that a claim and a finish can never pass each other.
//!
//! ```text
//! Unclaimed ──> Claiming ──> Claimed ──┐
//!     │             └──────> Lost      ├──> Finishing
//!     └────────────────────────────────┘
//! ```
//!
//! A claim whose reply is missing stays `Claiming`: it is tried again, with the same nonce, until it is known. Finishing
//! waits for that, since the two would name different epochs.

use offload_common::job::Lease;

/// Where a run stands with its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs lazily: the row still says `queued`.
    Unclaimed,
    /// A claim is under way, or its outcome is not known yet.
    Claiming,
    /// The row says `running` under this lease.
    Claimed(Lease),
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

    /// The handler has ended: what the run can write, and the phase that it writes it in. `None` while the outcome of a
    /// claim is not known: ask again after the next change.
    pub(crate) fn finish(self) -> Option<(Phase, Hold)> {
        match self {
            Phase::Unclaimed => Some((Phase::Finishing, Hold::Lazy)),
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
        use Phase::{Claimed, Claiming, Finishing, Lost, Unclaimed};
        let held = Claimed(lease());
        // phase, claim, outcome granted, outcome refused, finish
        let table = [
            (Unclaimed, Some(Claiming), Unclaimed, Unclaimed, Some((Finishing, Hold::Lazy))),
            (Claiming, Some(Claiming), held, Lost, None),
            (held, None, held, held, Some((Finishing, Hold::Claimed(lease())))),
            (Finishing, None, Finishing, Finishing, Some((Finishing, Hold::Lost))),
            (Lost, None, Lost, Lost, Some((Lost, Hold::Lost))),
        ];
        for (phase, claim, granted, refused, finish) in table {
            assert_eq!(phase.claim(), claim, "{phase:?} claim");
            assert_eq!(phase.claimed(Some(lease())), granted, "{phase:?} granted");
            assert_eq!(phase.claimed(None), refused, "{phase:?} refused");
            assert_eq!(phase.finish(), finish, "{phase:?} finish");
        }
    }

    proptest! {
        /// Whatever order claims, answers and the end come in: at most one write is handed out, and it names the epoch
        /// that the row has.
        #[test]
        fn a_claim_and_a_finish_never_pass_each_other(steps in proptest::collection::vec(0u8..4, 0..20)) {
            let mut phase = Phase::Unclaimed;
            let (mut claimed_in_the_row, mut writes) = (false, 0);
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
                    _ => if let Some((next, hold)) = phase.finish() {
                        match hold {
                            Hold::Lazy => { prop_assert!(!claimed_in_the_row); writes += 1; }
                            Hold::Claimed(_) => { prop_assert!(claimed_in_the_row); writes += 1; }
                            Hold::Lost => {}
                        }
                        phase = next;
                    },
                }
                prop_assert!(writes <= 1);
            }
        }
    }
}
