//! What all upkeep loops have in common: passes in a rhythm that each sets itself, spread by chance, nudged, and a
//! status to look at.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use offload_common::{clock, panics, store};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

// The pause after a failure, doubled with each in a row, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
// What the pass under way may still take when the loops stop.
const LAST_PASS: Duration = Duration::from_secs(2);
// Nudged passes begin this far apart: what comes in between shares the next.
const GATHER: Duration = Duration::from_millis(10);

/// A loop that brings the world closer to what it should be. A pass takes no input, may run anywhere at any time, any
/// number at once, and does nothing where there is nothing to do.
#[async_trait]
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// For logs and the status.
    fn name(&self) -> &'static str;

    /// One pass; answers how long the next can wait.
    async fn run_once(&self) -> store::Result<Duration>;
}

/// How a loop is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoopStatus {
    /// Passes that succeeded.
    pub passes: u64,
    /// Passes that failed since the last success.
    pub failures: u32,
    /// Why the last pass failed, if it did.
    pub error: Option<String>,
}

/// The loops of this process.
#[derive(Clone, Default)]
pub(crate) struct Loops {
    status: Arc<Mutex<BTreeMap<&'static str, LoopStatus>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Loops {
    /// Starts a loop, with a nudge to wake it by.
    pub(crate) fn start(&self, reconciler: impl Reconcile, nudge: Arc<Notify>) {
        let (status, stop) = (self.status.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            loop {
                let began = clock::instant();
                let mut running = std::pin::pin!(panics::caught(reconciler.run_once()));
                let pass = tokio::select! {
                    pass = &mut running => pass,
                    () = stop.cancelled() => {
                        // A steal under way may have claimed rows already: dropped, nobody would know of them.
                        let _ = timeout(LAST_PASS, running).await;
                        return;
                    }
                };
                let pass = pass.and_then(|pass| pass.map_err(|error| error.to_string()));
                let pause = note(&status, reconciler.name(), pass);
                tokio::select! {
                    () = tokio::time::sleep(spread(pause, rand::random())) => {}
                    () = nudged(&nudge, began + GATHER) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// How the loops are doing, by name.
    pub(crate) fn status(&self) -> BTreeMap<&'static str, LoopStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends them all.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Waits for a nudge, and not less than until `earliest`.
async fn nudged(nudge: &Notify, earliest: Instant) {
    nudge.notified().await;
    tokio::time::sleep_until(earliest.into()).await;
}

/// Notes how a pass went; answers the pause after it.
fn note(
    status: &Mutex<BTreeMap<&'static str, LoopStatus>>,
    name: &'static str,
    pass: Result<Duration, String>,
) -> Duration {
    let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
    let status = status.entry(name).or_default();
    match pass {
        Ok(pause) => {
            *status = LoopStatus { passes: status.passes + 1, ..LoopStatus::default() };
            pause
        }
        Err(error) => {
            if status.failures == 0 {
                tracing::warn!(name, error, "upkeep failed; it is tried again until it succeeds");
            }
            let pause = (FIRST_PAUSE * 2u32.saturating_pow(status.failures.min(8))).min(LONGEST_PAUSE);
            *status = LoopStatus { failures: status.failures + 1, error: Some(error), ..*status };
            pause
        }
    }
}

/// A tenth more or less, so that the processes of a fleet do not march in step.
fn spread(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.9 + 0.2 * chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::mpsc;

    struct Scripted {
        pass: AtomicU32,
        passes: mpsc::UnboundedSender<u32>,
    }

    #[async_trait]
    impl Reconcile for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }

        /// Asks for an hour's rest after each pass; panics in the third.
        async fn run_once(&self) -> store::Result<Duration> {
            let pass = self.pass.fetch_add(1, Ordering::Relaxed);
            let _ = self.passes.send(pass);
            assert!(pass != 2, "on purpose");
            Ok(Duration::from_secs(3600))
        }
    }

    #[tokio::test]
    async fn a_nudge_wakes_a_loop_that_rests() {
        let (passes, mut seen) = mpsc::unbounded_channel();
        let (loops, nudge) = (Loops::default(), Arc::new(Notify::new()));
        loops.start(Scripted { pass: AtomicU32::new(0), passes }, nudge.clone());
        assert_eq!(seen.recv().await, Some(0));
        nudge.notify_one();
        assert_eq!(seen.recv().await, Some(1));
        loops.stop().await;
        assert_eq!(seen.recv().await, None, "stopped");
    }

    #[tokio::test]
    async fn a_pass_that_panics_has_failed_and_another_follows() {
        let (passes, mut seen) = mpsc::unbounded_channel();
        let (loops, nudge) = (Loops::default(), Arc::new(Notify::new()));
        loops.start(Scripted { pass: AtomicU32::new(2), passes }, nudge);
        assert_eq!((seen.recv().await, seen.recv().await), (Some(2), Some(3)));
        loops.stop().await;
    }

    #[test]
    fn failures_in_a_row_slow_down_and_a_success_is_as_if_nothing_had_been() {
        let status = Mutex::default();
        let fail = || note(&status, "x", Err("away".into())).as_millis();
        assert_eq!([fail(), fail(), fail(), fail(), fail(), fail()], [500, 1000, 2000, 4000, 8000, 8000]);
        assert_eq!(note(&status, "x", Ok(Duration::from_secs(1))).as_millis(), 1000);
        assert_eq!(status.lock().unwrap()["x"], LoopStatus { passes: 1, failures: 0, error: None });
    }

    #[test]
    fn pauses_are_spread_by_a_tenth() {
        let second = Duration::from_secs(1);
        assert_eq!([spread(second, 0.0), spread(second, 1.0)].map(|d| d.as_millis()), [900, 1100]);
    }
}
