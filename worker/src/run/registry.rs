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

/// The runs of this process. A run starts only under the membership in force: both change under one lock, so that being
/// fenced misses none.
pub(crate) struct Runs {
    by_job: Mutex<HashMap<JobId, Arc<Run>>>,
    standing: watch::Sender<Standing>,
    claims_wanted: Notify,
    /// Claims that are under way for runs that are not here yet.
    pub(crate) takings: Takings,
}

impl Runs {
    pub(crate) fn new() -> Self {
        Self {
            by_job: Mutex::default(),
            standing: watch::Sender::new(Standing::Outside),
            claims_wanted: Notify::new(),
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
        let runs = self.lock();
        self.standing.send_replace(Standing::Outside);
        runs.values().for_each(|run| run.stop.because(reason));
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

    /// Enters a run. One of the same job that is still here has lost its lease. `false` where the membership that it
    /// was to start under is over.
    pub(crate) fn enter(&self, run: &Arc<Run>) -> bool {
        let mut runs = self.lock();
        let in_force = matches!(self.standing(), Standing::Member(now) if now.worker == run.worker);
        if in_force && let Some(former) = runs.insert(run.job, run.clone()) {
            former.stop.because(StopReason::LeaseLost);
        }
        in_force
    }

    /// A run is over.
    pub(crate) fn leave(&self, run: &Arc<Run>) {
        let mut runs = self.lock();
        if runs.get(&run.job).is_some_and(|entered| Arc::ptr_eq(entered, run)) {
            runs.remove(&run.job);
        }
    }

    /// A message of a job that runs here already only replaces the message that brought it; an older one is void. Any
    /// other is handed back.
    pub(crate) fn adopt(&self, ticket: Ticket) -> Option<Ticket> {
        let runs = self.lock();
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
        let runs = self.lock();
        jobs.iter().filter_map(|job| runs.get(job)).for_each(|run| run.stop.because(reason));
    }

    /// Stops every handler; answers how many.
    pub(crate) fn stop_all(&self, reason: StopReason) -> usize {
        let runs = self.lock();
        runs.values().for_each(|run| run.stop.because(reason));
        runs.len()
    }

    // --- claims of lazy runs

    /// Has every lazy run claimed now.
    pub(crate) fn claim_all(&self) {
        self.lock().values().for_each(|run| run.want_claim());
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
        self.lock().values().filter_map(begin).unzip()
    }

    /// Whether this very run is here.
    pub(crate) fn has(&self, lease: &Lease) -> bool {
        self.lock().get(&lease.job).is_some_and(|run| run.nonce == lease.nonce)
    }

    /// How many runs there are, and how many of them are claimed.
    pub(crate) fn count(&self) -> (usize, usize) {
        let runs = self.lock();
        let claimed = runs.values().filter(|run| matches!(*run.phase.borrow(), Phase::Claimed(_))).count();
        (runs.len(), claimed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Run>>> {
        // Nothing here panics half-way through a change.
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
