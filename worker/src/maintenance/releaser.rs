//! The releaser: jobs that wait for others are told of their ends, and go on, or are given up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::broker::{Broker, Signal};
use offload_common::failpoint;
use offload_common::store::{self, Store};
use tokio::sync::Notify;

use super::Reconcile;

// Between two looks: an end that this process did not see itself is waited for no longer.
const PERIOD: Duration = Duration::from_millis(250);
// Jobs per pass.
const PAGE: u32 = 1_000;

/// Releases.
pub(crate) struct Releaser {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Wakes the promoter: there is something due.
    pub(crate) promote: Arc<Notify>,
}

#[async_trait]
impl Reconcile for Releaser {
    fn name(&self) -> &'static str {
        "releaser"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let released = self.store.release(PAGE).await?;
        if released.proceeded > 0 || !released.cancelled.is_empty() {
            failpoint::reach("release.after");
            // What follows the end of a job that was given up may be due, too.
            self.promote.notify_one();
        }
        if !released.cancelled.is_empty() {
            self.broker.signal(Signal::Changed(released.cancelled)).await;
        }
        Ok(if released.more { Duration::ZERO } else { PERIOD })
    }
}
