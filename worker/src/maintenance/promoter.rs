//! The promoter: what is due becomes queued, while its lane has room, and is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use offload_common::failpoint;
use offload_common::publisher::Publisher;
use offload_common::store::{self, Store};

use super::Reconcile;

/// The longest pause between two looks, so that what others schedule sooner is seen in time.
pub(crate) const LONGEST_NAP: Duration = Duration::from_secs(1);
// Jobs per pass.
const PAGE: u32 = 1_000;
// The pause while something is due that cannot be promoted (its lane is full, or no live worker offers its kind),
// doubled with each such look in a row.
const HELD_BACK: Duration = Duration::from_millis(100);

/// Promotes.
pub(crate) struct Promoter {
    store: Arc<dyn Store>,
    publisher: Publisher,
    window: u32,
    held_back: AtomicU32,
}

impl Promoter {
    /// Keeps up to `window` queued rows in each lane.
    pub(crate) fn new(store: Arc<dyn Store>, publisher: Publisher, window: u32) -> Self {
        Self { store, publisher, window, held_back: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Reconcile for Promoter {
    fn name(&self) -> &'static str {
        "promoter"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        match self.store.next_due().await? {
            Some(Duration::ZERO) => {}
            later => {
                self.held_back.store(0, Ordering::Relaxed);
                return Ok(later.map_or(LONGEST_NAP, |due| due.min(LONGEST_NAP)));
            }
        }
        let promoted = self.store.promote(self.window, PAGE).await?;
        if promoted.is_empty() {
            let times = self.held_back.fetch_add(1, Ordering::Relaxed);
            return Ok((HELD_BACK * 2u32.pow(times.min(4))).min(LONGEST_NAP));
        }
        self.held_back.store(0, Ordering::Relaxed);
        failpoint::reach("promote.after");
        self.publisher.send(promoted);
        Ok(Duration::ZERO)
    }
}
