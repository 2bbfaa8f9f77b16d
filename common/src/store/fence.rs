//! The fence: which ends of runs a row takes, and whose end it shows. The statements of the stores say the same, and their
//! answers are read off here.

use super::Finish;
use crate::job::{Epoch, Nonce, State};

/// What the fence looks at in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Where the job stands.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// The run that wrote it last, if one did.
    pub nonce: Option<Nonce>,
    /// A client wants it cancelled, and it runs.
    pub cancel_requested: bool,
}

/// What became of a [`Finish`] that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The row shows it, whether this try or an earlier one wrote it.
    Applied,
    /// A client wants the job cancelled, and the transition was not a final one. The lease still holds.
    CancelRequested,
    /// The row has moved on.
    Lost,
}

impl Fence {
    /// Whether the row takes this end: its lease holds, and no wish to cancel would be lost.
    #[must_use]
    pub fn takes(&self, finish: &Finish) -> bool {
        self.holds(finish) && (finish.transition.to.is_final() || !self.cancel_requested)
    }

    /// What became of an end that was tried, as the row says afterwards.
    #[must_use]
    pub fn fate(&self, finish: &Finish) -> Fate {
        let lease = &finish.lease;
        if self.state == finish.transition.to && self.nonce == Some(lease.nonce) && self.epoch == lease.epoch + 1 {
            Fate::Applied
        } else if self.holds(finish) && self.cancel_requested {
            Fate::CancelRequested
        } else {
            Fate::Lost
        }
    }

    fn holds(&self, finish: &Finish) -> bool {
        let expected = if finish.lease.claimed { State::Running } else { State::Queued };
        self.state == expected && self.epoch == finish.lease.epoch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::transition::Transition;
    use crate::job::{JobId, Lease, WorkerId};

    fn finish(to: State) -> Finish {
        let lease = Lease { job: JobId::new(), epoch: 7, worker: WorkerId::new(), nonce: Nonce(42), claimed: true };
        let transition = Transition { to, attempt: 1, losses: 0, delay: None, failure: None };
        Finish { lease, transition, result: None, ran_for: Duration::ZERO, linked: false }
    }

    fn row(state: State, epoch: Epoch, nonce: i64) -> Fence {
        Fence { state, epoch, nonce: Some(Nonce(nonce)), cancel_requested: false }
    }

    #[test]
    fn only_a_lease_that_holds_can_end_its_run() {
        let succeed = finish(State::Succeeded);
        assert!(row(State::Running, 7, 42).takes(&succeed));
        assert!(!row(State::Running, 8, 42).takes(&succeed), "another epoch");
        assert!(!row(State::Queued, 7, 42).takes(&succeed), "not claimed");
        let lazy = Finish { lease: Lease { claimed: false, ..succeed.lease }, ..succeed };
        assert!(row(State::Queued, 7, 41).takes(&lazy), "a lazy run's nonce is not in the row yet");
        assert!(!row(State::Running, 7, 42).takes(&lazy));
    }

    #[test]
    fn only_my_own_write_counts_as_mine() {
        let succeed = finish(State::Succeeded);
        assert_eq!(row(State::Succeeded, 8, 42).fate(&succeed), Fate::Applied);
        assert_eq!(row(State::Succeeded, 8, 43).fate(&succeed), Fate::Lost, "another run's");
        assert_eq!(row(State::Succeeded, 9, 42).fate(&succeed), Fate::Lost, "another epoch");
        assert_eq!(row(State::Failed, 8, 42).fate(&succeed), Fate::Lost, "another end");
        assert_eq!(row(State::Running, 7, 42).fate(&succeed), Fate::Lost, "nothing was written");
        assert_eq!(row(State::Queued, 8, 42).fate(&finish(State::Queued)), Fate::Applied);
    }

    #[test]
    fn a_wish_to_cancel_stops_what_is_not_final_and_is_told_only_while_the_lease_holds() {
        let (retry, succeed) = (finish(State::Scheduled), finish(State::Succeeded));
        let wished = |row: Fence| Fence { cancel_requested: true, ..row };
        assert!(!wished(row(State::Running, 7, 42)).takes(&retry));
        assert!(wished(row(State::Running, 7, 42)).takes(&succeed));
        assert_eq!(wished(row(State::Running, 7, 42)).fate(&retry), Fate::CancelRequested);
        assert_eq!(wished(row(State::Running, 8, 42)).fate(&retry), Fate::Lost);
        assert_eq!(wished(row(State::Cancelled, 7, 42)).fate(&retry), Fate::Lost);
    }
}
