//! A run's own time: what is to happen when. The one place of the suite that lets time pass.

use std::time::{Duration, Instant};

use offload_common::clock;

/// Counts from the start of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    start: Instant,
}

impl Timeline {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self { start: clock::instant() }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until so long after the start.
    pub(crate) async fn until(&self, at: Duration) {
        pass(at.saturating_sub(self.now())).await;
    }
}

/// Lets a fault last, or a client pause.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
