//! The runs of this process, and under which membership they run.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offload_common::job::{JobId, Lease, WorkerId};
use offload_common::store::Claim;
use tokio::sync::{Notify, watch};

use super::takings::Takings;
use super::{Phase, Run, StopReason};
use crate::delivery::Ticket;

/// Where this process stands as a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not a member yet, or not any more: nothing starts.
    Outside,
    /// A member.
    Member(Membership),
}

/// A membership in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The id that it goes by.
    pub(crate) worker: WorkerId,
    /// Since when every beat succeeded; `None` while the last one did not.
    pub(crate) steady_since: Option<Instant>,
}

/// The runs of this process. A run starts only under the membership in force, and not once the process is ending: all of
/// this changes under one lock, so that being fenced or told to end misses none.
pub(crate) struct Runs {
    entered: Mutex<Entered>,
    standing: watch::Sender<Standing>,
    claims_wanted: Notify,
    doubts: Notify,
    /// Claims that are under way for runs that are not here yet.
    pub(crate) takings: Takings,
}

#[derive(Default)]
struct Entered {
    by_job: HashMap<JobId, Arc<Run>>,
    // Every handler has been told to end, for this reason; so is each that comes later.
    ending: Option<StopReason>,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self {
            entered: Mutex::default(),
            standing: watch::Sender::new(Standing::Outside),
            claims_wanted: Notify::new(),
            doubts: Notify::new(),
            takings: Takings::default(),
        }
    }

    // --- membership

    /// The membership in force changes. Without one, nothing starts.
    pub(crate) fn stand(&self, standing: Standing) {
        let _no_start_meanwhile = self.lock();
        self.standing.send_replace(standing);
    }

    /// Ends the membership and stops every handler.
    pub(crate) fn step_back(&self, reason: StopReason) {
        let entered = self.lock();
        self.standing.send_replace(Standing::Outside);
        entered.by_job.values().for_each(|run| run.stop.because(reason));
        drop(entered);
        if reason == StopReason::Fenced {
            self.abandon_claims();
        }
    }

    /// The store does not know this membership any more: nothing starts under it, and the heartbeat is to look at once.
    pub(crate) fn doubt(&self, worker: WorkerId) {
        let _no_start_meanwhile = self.lock();
        if matches!(self.standing(), Standing::Member(now) if now.worker == worker) {
            self.standing.send_replace(Standing::Outside);
        }
        self.doubts.notify_one();
    }

    /// Waits for [`Runs::doubt`].
    pub(crate) async fn doubted(&self) {
        self.doubts.notified().await;
    }

    /// The membership that has ended does not come back: what is not known to be claimed never will be.
    pub(crate) fn abandon_claims(&self) {
        self.lock().by_job.values().for_each(|run| run.abandon_claim());
    }

    /// Where this process stands now.
    pub(crate) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Waits for a membership.
    pub(crate) async fn member(&self) -> WorkerId {
        let mut standing = self.standing.subscribe();
        loop {
            if let Standing::Member(membership) = *standing.borrow_and_update() {
                return membership.worker;
            }
            // The sender is `self`, so the wait cannot fail.
            let _ = standing.changed().await;
        }
    }

    // --- runs

    /// Enters a run. Of two of one job, that of the earlier epoch has lost its lease. A run that is not to start after
    /// all is stopped before it does.
    pub(crate) fn enter(&self, run: &Arc<Run>) {
        let mut entered = self.lock();
        if !matches!(self.standing(), Standing::Member(now) if now.worker == run.worker) {
            // The membership ended between its claim and now: it is handed back.
            run.stop.because(StopReason::OutOfTouch);
            return run.abandon_claim();
        }
        if let Some(former) = entered.by_job.get(&run.job) {
            if former.latest_epoch() > run.epoch {
                return run.superseded();
            }
            former.superseded();
        }
        entered.by_job.insert(run.job, run.clone());
        if let Some(reason) = entered.ending {
            run.stop.because(reason);
        }
    }

    /// A run is over.
    pub(crate) fn leave(&self, run: &Arc<Run>) {
        let runs = &mut self.lock().by_job;
        if runs.get(&run.job).is_some_and(|entered| Arc::ptr_eq(entered, run)) {
            runs.remove(&run.job);
        }
    }

    /// A message of a job that runs here already only replaces the message that brought it; an older one is void. Any
    /// other is handed back.
    pub(crate) fn adopt(&self, ticket: Ticket) -> Option<Ticket> {
        let runs = &self.lock().by_job;
        let Some(run) = runs.get(&ticket.pointer.id) else { return Some(ticket) };
        match ticket.pointer.epoch.cmp(&run.epoch) {
            Ordering::Less => ticket.receipt.done(),
            Ordering::Equal => run.replace_receipt(ticket.receipt),
            // The job was taken from this run.
            Ordering::Greater => return Some(ticket),
        }
        None
    }

    /// Stops these handlers, of those that run here.
    pub(crate) fn stop(&self, jobs: &[JobId], reason: StopReason) {
        let runs = &self.lock().by_job;
        jobs.iter().filter_map(|job| runs.get(job)).for_each(|run| run.stop.because(reason));
    }

    /// Stops every handler, those too that are about to start; answers how many there are.
    pub(crate) fn stop_all(&self, reason: StopReason) -> usize {
        let mut entered = self.lock();
        entered.ending = Some(reason);
        entered.by_job.values().for_each(|run| run.stop.because(reason));
        entered.by_job.len()
    }

    // --- claims of lazy runs

    /// Has every lazy run claimed now.
    pub(crate) fn claim_all(&self) {
        self.lock().by_job.values().for_each(|run| run.want_claim());
        self.claim_soon();
    }

    /// Wakes the heartbeat, which makes the claims.
    pub(crate) fn claim_soon(&self) {
        self.claims_wanted.notify_one();
    }

    /// Waits for [`Runs::claim_soon`].
    pub(crate) async fn claim_wanted(&self) {
        self.claims_wanted.notified().await;
    }

    /// Starts the claims that are wanted, and those of the runs that have lasted for `lazy`.
    pub(crate) fn begin_claims(&self, lazy: Duration, now: Instant) -> (Vec<Arc<Run>>, Vec<Claim>) {
        let begin = |run: &Arc<Run>| Some((run.clone(), run.begin_claim(lazy, now)?));
        self.lock().by_job.values().filter_map(begin).unzip()
    }

    /// Whether this very run is here.
    pub(crate) fn has(&self, lease: &Lease) -> bool {
        self.lock().by_job.get(&lease.job).is_some_and(|run| run.nonce == lease.nonce)
    }

    /// How many runs there are, and how many of them are claimed.
    pub(crate) fn count(&self) -> (usize, usize) {
        let runs = &self.lock().by_job;
        let claimed = runs.values().filter(|run| matches!(*run.phase.borrow(), Phase::Claimed(_))).count();
        (runs.len(), claimed)
    }

    fn lock(&self) -> MutexGuard<'_, Entered> {
        // Nothing here panics half-way through a change.
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Hold, LeaseLost};
    use futures_util::FutureExt;
    use offload_common::clock;
    use offload_common::job::{Epoch, Nonce};

    fn member() -> (Runs, WorkerId) {
        let (runs, worker) = (Runs::new(), WorkerId::new());
        runs.stand(Standing::Member(Membership { worker, steady_since: None }));
        (runs, worker)
    }

    fn entered(runs: &Runs, run: Run) -> Arc<Run> {
        let run = Arc::new(run);
        runs.enter(&run);
        run
    }

    fn lease(job: JobId, epoch: Epoch, worker: WorkerId) -> Lease {
        Lease { job, epoch, worker, nonce: Nonce::new(), claimed: true }
    }

    /// What the end of a run can write, if that is known without waiting for anybody.
    fn hold(run: &Run) -> Option<Hold> {
        run.finish().now_or_never()
    }

    #[test]
    fn a_run_that_is_replaced_waits_for_no_claim() {
        let (runs, worker) = member();
        let job = JobId::new();
        let former = entered(&runs, Run::lazy(job, 1, worker, None));
        assert_eq!(runs.begin_claims(Duration::ZERO, clock::instant()).1.len(), 1);
        assert_eq!(hold(&former), None, "its claim is under way");
        let next = entered(&runs, Run::claimed(lease(job, 4, worker), None));
        assert_eq!(former.stop.reason(), Some(StopReason::LeaseLost));
        assert_eq!(former.hold(&runs).now_or_never(), Some(Err(LeaseLost)));
        assert_eq!(hold(&former), Some(Hold::Lost));
        runs.leave(&former);
        assert_eq!((next.stop.reason(), runs.count()), (None, (1, 1)));
    }

    #[test]
    fn a_run_that_comes_late_does_not_take_the_place_of_a_later_one() {
        let (runs, worker) = member();
        let job = JobId::new();
        let stolen = entered(&runs, Run::claimed(lease(job, 2, worker), None));
        let late = entered(&runs, Run::lazy(job, 1, worker, None));
        assert_eq!((late.stop.reason(), hold(&late)), (Some(StopReason::LeaseLost), Some(Hold::Lost)));
        assert!(stolen.stop.reason().is_none() && matches!(hold(&stolen), Some(Hold::Claimed(_))));
    }

    #[test]
    fn nobody_waits_for_a_claim_once_the_membership_is_over() {
        let (runs, worker) = member();
        let [asked, unasked] = [1, 2].map(|epoch| entered(&runs, Run::lazy(JobId::new(), epoch, worker, None)));
        asked.want_claim();
        assert_eq!(runs.begin_claims(Duration::from_secs(9), clock::instant()).1.len(), 1);
        runs.step_back(StopReason::OutOfTouch);
        assert_eq!(hold(&asked), None, "it may come back");
        runs.step_back(StopReason::Fenced);
        assert!(runs.begin_claims(Duration::ZERO, clock::instant()).1.is_empty());
        for run in [&asked, &unasked] {
            assert_eq!(run.hold(&runs).now_or_never(), Some(Err(LeaseLost)));
            assert_eq!(hold(run), Some(Hold::Lazy), "the epoch decides");
        }
        let late = entered(&runs, Run::lazy(JobId::new(), 1, worker, None));
        assert_eq!(late.hold(&runs).now_or_never(), Some(Err(LeaseLost)));
        assert_eq!((late.stop.reason(), hold(&late)), (Some(StopReason::OutOfTouch), Some(Hold::Lazy)));
    }

    #[test]
    fn what_starts_once_everything_is_told_to_end_is_told_as_well() {
        let (runs, worker) = member();
        let early = entered(&runs, Run::claimed(lease(JobId::new(), 1, worker), None));
        assert_eq!(runs.stop_all(StopReason::Draining), 1);
        let late = entered(&runs, Run::claimed(lease(JobId::new(), 1, worker), None));
        for run in [early, late] {
            assert_eq!(run.stop.reason(), Some(StopReason::Draining));
        }
    }
}
