//! The reaper: what lost workers left running goes to others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::broker::{Broker, Signal};
use offload_common::job::{Lane, Priority};
use offload_common::store::{self, Dispatch, Judge, ReapPolicy};
use offload_common::{clock, failpoint};

use super::Reconcile;
use crate::engine::Engine;
use crate::run::{Membership, Standing};

// Between two looks, and while a worker seems to have died a moment ago.
const PERIOD: Duration = Duration::from_millis(500);
const SUSPICIOUS: Duration = Duration::from_millis(100);

/// Reaps.
pub(crate) struct Reaper {
    pub(crate) engine: Arc<Engine>,
    pub(crate) broker: Arc<dyn Broker>,
    /// Without a beat for this long, a worker is lost.
    pub(crate) lease: Duration,
}

impl Reaper {
    /// As whom this process judges others. It goes by their silence only if its own beats succeeded throughout the last
    /// lease: after an outage of the database everybody was silent, and whoever comes back first must not take the others
    /// for dead.
    fn judge(&self) -> Option<Judge> {
        let Standing::Member(Membership { worker, steady_since }) = self.engine.runs.standing() else { return None };
        let steady = steady_since.is_some_and(|since| clock::instant().duration_since(since) >= self.lease);
        Some(Judge { worker, steady })
    }
}

/// Where a job goes whose worker is gone: it has waited once already, so its message takes the fast lane. The row keeps
/// its own.
fn urgent(dispatch: Dispatch) -> Dispatch {
    Dispatch { lane: Lane { priority: Priority::High, ..dispatch.lane }, ..dispatch }
}

#[async_trait]
impl Reconcile for Reaper {
    fn name(&self) -> &'static str {
        "reaper"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let policy = ReapPolicy { lease: self.lease, judge: self.judge() };
        let reaped = self.engine.store.reap(&policy).await?;
        for worker in &reaped.workers {
            tracing::warn!(worker.id = %worker, "a worker is lost; its jobs go to others");
        }
        let moved = reaped.requeued.len() + reaped.ended.len();
        if reaped.waiting {
            // Their messages are with workers that have no room, or were lost.
            self.engine.rescue.store(true, Ordering::Relaxed);
            self.engine.steal.notify_one();
        }
        if moved == 0 {
            return Ok(if reaped.suspicion { SUSPICIOUS } else { PERIOD });
        }
        tracing::info!(requeued = reaped.requeued.len(), ended = reaped.ended.len(), "took over jobs of lost workers");
        let queued = reaped.requeued.iter().map(|dispatch| dispatch.pointer.id);
        let changed = queued.chain(reaped.ended.iter().copied()).collect();
        failpoint::reach("reap.after");
        self.engine.publisher.send(reaped.requeued.into_iter().map(urgent).collect());
        self.broker.signal(Signal::Changed(changed)).await;
        // There may be more.
        Ok(Duration::ZERO)
    }
}
