//! A run: one attempt at a job in this process, as its executor, the heartbeat and the reports share it.

mod phase;
mod registry;
mod reports;
mod stop;
mod takings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use offload_common::clock;
use offload_common::job::{Epoch, JobId, Lease, Nonce, WorkerId};
use offload_common::store::Claim;
use tokio::sync::watch;

pub(crate) use phase::{Hold, Phase};
pub(crate) use registry::{Membership, Runs, Standing};
pub(crate) use reports::Reports;
pub(crate) use stop::{Stop, StopReason};

use crate::delivery::Receipt;

/// One attempt at a job in this process.
pub(crate) struct Run {
    /// The job.
    pub(crate) job: JobId,
    /// The epoch that the row had, or has while the run is lazy.
    pub(crate) epoch: Epoch,
    /// The worker that it started under.
    pub(crate) worker: WorkerId,
    /// Drawn for this run.
    pub(crate) nonce: Nonce,
    /// When the handler started.
    pub(crate) started: Instant,
    /// Tells the handler to end, and says why.
    pub(crate) stop: Stop,
    /// What the handler says.
    pub(crate) reports: Reports,
    /// Whether no message brought it.
    pub(crate) stolen: bool,
    phase: watch::Sender<Phase>,
    claim_wanted: AtomicBool,
    receipt: Mutex<Option<Receipt>>,
}

/// The row has moved on: this run's lease is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseLost;

impl Run {
    /// A run that starts now without a claim, on a row that says `queued` at `epoch`.
    pub(crate) fn lazy(job: JobId, epoch: Epoch, worker: WorkerId, receipt: Option<Receipt>) -> Self {
        Self::start(job, epoch, worker, Nonce::new(), Phase::Unclaimed, receipt)
    }

    /// A run that starts now under a claim.
    pub(crate) fn claimed(lease: Lease, receipt: Option<Receipt>) -> Self {
        Self::start(lease.job, lease.epoch, lease.worker, lease.nonce, Phase::Claimed(lease), receipt)
    }

    fn start(job: JobId, epoch: Epoch, worker: WorkerId, nonce: Nonce, phase: Phase, receipt: Option<Receipt>) -> Self {
        Self {
            job,
            epoch,
            worker,
            nonce,
            started: clock::instant(),
            stop: Stop::new(),
            reports: Reports::default(),
            stolen: receipt.is_none(),
            phase: watch::Sender::new(phase),
            claim_wanted: AtomicBool::new(false),
            receipt: Mutex::new(receipt),
        }
    }

    /// Asks for the claim now, rather than once the run has lasted a while.
    pub(crate) fn want_claim(&self) {
        self.claim_wanted.store(true, Ordering::Relaxed);
    }

    /// Waits until the run is claimed; asks for that where it is not.
    ///
    /// # Errors
    /// [`LeaseLost`] where it cannot be any more.
    pub(crate) async fn hold(&self, runs: &Runs) -> Result<Lease, LeaseLost> {
        if *self.phase.borrow() == Phase::Unclaimed {
            self.want_claim();
            runs.claim_soon();
        }
        let known = |phase: &Phase| !matches!(phase, Phase::Unclaimed | Phase::Claiming);
        // The sender is `self`, so the wait cannot fail.
        let phase = self.phase.subscribe().wait_for(known).await.map(|phase| *phase);
        if let Ok(Phase::Claimed(lease)) = phase { Ok(lease) } else { Err(LeaseLost) }
    }

    /// Starts the claim if the run has lasted for `lazy` or the claim is wanted, or when an earlier one has no answer yet.
    pub(crate) fn begin_claim(&self, lazy: Duration, now: Instant) -> Option<Claim> {
        let running_for = now.duration_since(self.started);
        let mut begun = false;
        self.phase.send_if_modified(|phase| {
            let ready = running_for >= lazy || self.claim_wanted.load(Ordering::Relaxed) || *phase == Phase::Claiming;
            let next = if ready { phase.claim() } else { None };
            begun = next.is_some();
            next.is_some_and(|next| std::mem::replace(phase, next) != next)
        });
        begun.then_some(Claim { job: self.job, epoch: self.epoch, nonce: self.nonce, running_for })
    }

    /// The claim has its answer. One that was refused stops the handler.
    pub(crate) fn end_claim(&self, outcome: Option<Lease>) {
        self.phase.send_modify(|phase| *phase = phase.claimed(outcome));
        if outcome.is_none() {
            self.stop.because(StopReason::LeaseLost);
        }
    }

    /// The row is known to have moved on: the handler is stopped, and nobody waits for a claim any more.
    pub(crate) fn superseded(&self) {
        self.phase.send_modify(|phase| *phase = phase.superseded());
        self.stop.because(StopReason::LeaseLost);
    }

    /// The membership is over, and nobody claims for it any more.
    pub(crate) fn abandon_claim(&self) {
        self.phase.send_modify(|phase| *phase = phase.abandoned());
    }

    /// The latest epoch that the row is known to have had under this run.
    fn latest_epoch(&self) -> Epoch {
        if let Phase::Claimed(lease) = *self.phase.borrow() { lease.epoch } else { self.epoch }
    }

    /// The handler has ended: no claim starts any more. Waits for one whose outcome is not known.
    pub(crate) async fn finish(&self) -> Hold {
        let mut changes = self.phase.subscribe();
        loop {
            let mut hold = None;
            self.phase.send_if_modified(|phase| {
                let Some((next, held)) = phase.finish() else { return false };
                hold = Some(held);
                std::mem::replace(phase, next) != next
            });
            match hold {
                Some(hold) => return hold,
                // The sender is `self`, so the wait cannot fail.
                None => _ = changes.changed().await,
            }
        }
    }

    /// The lease to write the end under.
    pub(crate) fn lease(&self, hold: Hold) -> Lease {
        let Hold::Claimed(lease) = hold else {
            let Self { job, epoch, worker, nonce, .. } = *self;
            return Lease { job, epoch, worker, nonce, claimed: false };
        };
        lease
    }

    /// What is owed for the message that brought the job, unless it has been settled.
    pub(crate) fn take_receipt(&self) -> Option<Receipt> {
        self.receipt.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The same message came again: the new delivery stands for the job from now on. A job whose message needs no
    /// settling any more needs none for this one.
    fn replace_receipt(&self, receipt: Receipt) {
        let mut mine = self.receipt.lock().unwrap_or_else(PoisonError::into_inner);
        match mine.as_mut() {
            Some(old) => std::mem::replace(old, receipt).done(),
            None => receipt.done(),
        }
    }
}
