//! The firer: schedules that are due have their turn, and their jobs are promoted at once.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::broker::{Broker, Signal};
use offload_common::failpoint;
use offload_common::store::{self, Store};
use tokio::sync::Notify;

use super::Reconcile;

// The longest pause between two looks, so that a schedule that was made or changed meanwhile is seen in time.
const LONGEST_NAP: Duration = Duration::from_secs(1);
// Between two looks while fires wait for jobs to come to their end.
const WHILE_WAITING: Duration = Duration::from_millis(500);
// While something is due that another process has in its hands.
const TAKEN: Duration = Duration::from_millis(100);
// Schedules per pass.
const PAGE: u32 = 100;

/// Fires.
pub(crate) struct Firer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Wakes the promoter: there is something due.
    pub(crate) promote: Arc<Notify>,
}

#[async_trait]
impl Reconcile for Firer {
    fn name(&self) -> &'static str {
        "firer"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let next = self.store.next_fire().await?;
        let nap = next.due_in.map_or(LONGEST_NAP, |due| due.min(LONGEST_NAP));
        let nap = if next.waiting { nap.min(WHILE_WAITING) } else { nap };
        if next.due_in != Some(Duration::ZERO) && !next.waiting {
            return Ok(nap);
        }
        let fired = self.store.fire(PAGE).await?;
        if fired.turns == 0 {
            return Ok(nap.max(TAKEN));
        }
        failpoint::reach("fire.after");
        for (schedule, why) in &fired.troubled {
            tracing::warn!(schedule.id = %schedule, why, "a schedule could not have its turn; it is tried again");
        }
        if !fired.submitted.is_empty() {
            self.promote.notify_one();
        }
        if !fired.cancelling.is_empty() {
            self.broker.signal(Signal::Cancel(fired.cancelling)).await;
        }
        if !fired.cancelled.is_empty() {
            self.broker.signal(Signal::Changed(fired.cancelled)).await;
        }
        // There may be more.
        Ok(Duration::ZERO)
    }
}
