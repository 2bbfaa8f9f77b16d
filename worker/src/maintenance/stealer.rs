//! The stealer: takes from the database what the broker lost, or cannot bring.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::failpoint;
use offload_common::store::{self, Steal};

use super::Reconcile;
use crate::delivery::Inbox;
use crate::engine::{Engine, Place};
use crate::run::{Run, Standing};

// What lost a worker, and is queued for longer, waits for a message in vain: it is taken whatever else the broker brings.
const LOST_LONG_ENOUGH: Duration = Duration::from_millis(500);

/// Steals.
pub(crate) struct Stealer {
    pub(crate) engine: Arc<Engine>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) queues: Vec<String>,
    /// How long the broker must have brought nothing, and a row be queued.
    pub(crate) patience: Duration,
}

#[async_trait]
impl Reconcile for Stealer {
    fn name(&self) -> &'static str {
        "stealer"
    }

    async fn run_once(&self) -> store::Result<Duration> {
        let rest = self.patience / 2;
        let engine = &self.engine;
        let older_than = self.inbox.lost_after(self.patience);
        let rescue = engine.rescue.swap(false, Ordering::Relaxed);
        if older_than.is_none() && !rescue {
            return Ok(rest);
        }
        let Standing::Member(membership) = engine.runs.standing() else { return Ok(rest) };
        // What is stolen is claimed as it starts: its slots are held before it is looked for.
        let mut suspect = engine.suspects.clone().try_acquire_owned().ok();
        let free = std::iter::from_fn(|| engine.slots.clone().try_acquire_owned().ok());
        let slots: Vec<_> = free.take(engine.slots.available_permits()).collect();
        if slots.is_empty() {
            // The end of a stolen run wakes this loop.
            return Ok(rest);
        }
        let steal = Steal {
            worker: membership.worker,
            queues: self.queues.clone(),
            kinds: engine.kinds.keys().cloned().collect(),
            older_than,
            lost_older_than: older_than.map_or(LOST_LONG_ENOUGH, |age| age.min(LOST_LONG_ENOUGH)),
            suspects: suspect.is_some(),
            limit: u32::try_from(slots.len()).unwrap_or(u32::MAX),
        };
        let _until_launched = engine.runs.takings.begin();
        // A reply that is lost leaves rows that say they run here: the heartbeat finds them.
        let stolen = engine.store.steal(&steal).await?;
        failpoint::reach("steal.after");
        let took_some = !stolen.is_empty();
        engine.finisher.announce(stolen.iter().map(|(job, _)| job.id).collect()).await;
        for ((job, lease), slot) in stolen.into_iter().zip(slots) {
            // The kinds asked for are the kinds that are here.
            let Some(kind) = engine.kinds.get(&job.kind).cloned() else { continue };
            let place = Place { _slot: slot, _suspect: if job.is_suspect() { suspect.take() } else { None } };
            tracing::debug!(job.id = %job.id, "its message was lost: taken from the database");
            engine.launch(job, kind, Run::claimed(lease, None), place);
        }
        Ok(if took_some { Duration::ZERO } else { rest })
    }
}
