//! The reaper: what lost workers left running goes to others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::broker::{Broker, Signal};
use offload_common::store::{self, ReapPolicy};
use offload_common::{clock, failpoint};

use super::Reconcile;
use crate::engine::Engine;
use crate::run::Standing;

// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Reaps.
pub(crate) struct Reaper {
    pub(crate) engine: Arc<Engine>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Without a beat for this long, a worker is lost.
    pub(crate) lease: Duration,
}

impl Reaper {
    /// Whether this process can judge others: its own beats succeeded throughout the last lease. After an outage of the
    /// database everybody was silent, and whoever comes back first must not take the others for dead.
    fn can_judge(&self) -> bool {
        let Standing::Member(membership) = self.engine.runs.standing() else { return false };
        membership.steady_since.is_some_and(|since| clock::instant().duration_since(since) >= self.lease)
    }
}

#[async_trait]
impl Reconcile for Reaper {
    fn name(&self) -> &'static str {
        "reaper"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let lease = self.can_judge().then_some(self.lease);
        let reaped = self.engine.store.reap(&ReapPolicy { lease }).await?;
        for worker in &reaped.workers {
            tracing::warn!(worker.id = %worker, "a worker is lost; its jobs go to others");
        }
        let moved = reaped.requeued.len() + reaped.ended.len();
        if moved == 0 {
            return Ok(PERIOD);
        }
        tracing::info!(requeued = reaped.requeued.len(), ended = reaped.ended.len(), "took over jobs of lost workers");
        let queued = reaped.requeued.iter().map(|dispatch| dispatch.pointer.id);
        let changed = queued.chain(reaped.ended.iter().copied()).collect();
        failpoint::reach("reap.after");
        self.engine.publisher.send(reaped.requeued);
        self.broker.signal(Signal::Changed(changed)).await;
        // There may be more.
        Ok(Duration::ZERO)
    }
}
