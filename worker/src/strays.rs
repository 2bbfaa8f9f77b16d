//! Rows that say they run here and do not: a reply was lost for good. They are handed back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use offload_common::job::Lease;
use offload_common::job::transition::Event;
use tokio::runtime::Handle;

use crate::conclusion::Conclusion;
use crate::engine::Engine;

/// What the look before this one found, each with the number of the first claim that began after it was found.
#[derive(Default)]
pub(crate) struct Strays {
    seen: HashMap<Lease, u64>,
}

impl Strays {
    /// Looks through the leases that the database says this worker holds. One that nothing here runs may have ended a
    /// moment ago, or be about to start: it is handed back once another look still finds it and every claim that was
    /// under way at the first has ended.
    pub(crate) fn look(&mut self, held: Vec<Lease>, engine: &Arc<Engine>, main: &Handle) {
        let takings = &engine.runs.takings;
        let before = std::mem::take(&mut self.seen);
        let ended = |found: &u64| takings.ended_before(*found);
        // Before the runs are looked at: a claim that has ended by now has entered its runs.
        let settled: HashMap<Lease, bool> = before.iter().map(|(lease, found)| (*lease, ended(found))).collect();
        let next = takings.next();
        for lease in held.into_iter().filter(|lease| !engine.runs.has(lease)) {
            match settled.get(&lease) {
                Some(true) => _ = main.spawn(hand_back(engine.clone(), lease)),
                _ => _ = self.seen.insert(lease, before.get(&lease).copied().unwrap_or(next)),
            }
        }
    }
}

async fn hand_back(engine: Arc<Engine>, lease: Lease) {
    // If the store is away, a later look finds it again.
    let Ok(rows) = engine.store.fetch(&[lease.job]).await else { return };
    for job in rows.into_iter().flatten().filter(|job| job.epoch == lease.epoch) {
        tracing::warn!(job.id = %job.id, "the database says that this job runs here, and it does not: handed back");
        let conclusion =
            Conclusion { engine: &engine, job: &job, attempt: job.attempt, lease, ran_for: Duration::ZERO };
        // No message brought it here.
        let _ = conclusion.write(Event::Release, None, None).await;
    }
}
