//! What every run in this process shares, and the one way to start a run.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use offload_common::files::Files;
use offload_common::publisher::Publisher;
use offload_common::store::{Candidate, Store};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::compute::Compute;
use crate::executor;
use crate::finisher::Finisher;
use crate::kind::AnyKind;
use crate::reporter::Reporter;
use crate::run::{Run, Runs};
use crate::vitals::Vitals;
use crate::watchdog::Watchdog;

/// What every run in this process shares.
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) files: Files,
    pub(crate) kinds: HashMap<String, Arc<dyn AnyKind>>,
    pub(crate) runs: Runs,
    /// Which part of the worker has died, if one has.
    pub(crate) vitals: Vitals,
    /// Whether it does what it could.
    pub(crate) watchdog: Watchdog,
    pub(crate) compute: Compute,
    pub(crate) finisher: Finisher,
    pub(crate) reporter: Reporter,
    /// One permit per job at once.
    pub(crate) slots: Arc<Semaphore>,
    /// One permit: of the jobs that lost a worker before, one runs at a time, so that the one among them that kills
    /// workers takes no other with it.
    pub(crate) suspects: Arc<Semaphore>,
    /// One permit per batch of jobs that is being claimed before it starts.
    pub(crate) claims: Semaphore,
    /// The running jobs, and what is about to run.
    pub(crate) tasks: TaskTracker,
    /// The message of a claimed run is settled after this, however long the run takes.
    pub(crate) ack_after: Duration,
    /// Wakes the promoter: something is due sooner than it may think.
    pub(crate) promote: Arc<Notify>,
    /// Wakes the releaser: a job has ended that others run after.
    pub(crate) release: Arc<Notify>,
    /// Wakes the stealer: a stolen run has ended, and where it came from there may be more.
    pub(crate) steal: Arc<Notify>,
    /// Rows that lost a worker wait for whoever has room: the stealer is to take some.
    pub(crate) rescue: AtomicBool,
    /// Wakes the reaper: a worker may be gone.
    pub(crate) reap: Arc<Notify>,
}

/// A job's place in this process, held until its run is over.
pub(crate) struct Place {
    pub(crate) _slot: OwnedSemaphorePermit,
    pub(crate) _suspect: Option<OwnedSemaphorePermit>,
}

impl Engine {
    /// Starts a run in a task of its own.
    pub(crate) fn launch(self: &Arc<Self>, job: Candidate, kind: Arc<dyn AnyKind>, run: Run, place: Place) {
        self.watchdog.started();
        let run = Arc::new(run);
        self.runs.enter(&run);
        self.tasks.spawn(executor::execute(self.clone(), job, kind, run, place));
    }
}
