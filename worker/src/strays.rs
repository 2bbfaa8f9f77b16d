//! Rows that say they run here and do not: a reply was lost for good. They are handed back.

use std::collections::HashSet;
use std::sync::Arc;

use offload_common::job::Lease;
use offload_common::job::transition::Event;
use tokio::runtime::Handle;

use crate::conclusion::Conclusion;
use crate::engine::Engine;

/// What the look before this one found.
#[derive(Default)]
pub(crate) struct Strays {
    seen: HashSet<Lease>,
}

impl Strays {
    /// Looks through the leases that the database says this worker holds. One that nothing here runs may be about to
    /// start, or just have ended; one that two looks in a row find astray is handed back.
    pub(crate) fn look(&mut self, held: Vec<Lease>, engine: &Arc<Engine>, main: &Handle) {
        let astray: HashSet<Lease> = held.into_iter().filter(|lease| !engine.runs.has(lease)).collect();
        for lease in astray.intersection(&self.seen) {
            main.spawn(hand_back(engine.clone(), *lease));
        }
        self.seen = astray;
    }
}

async fn hand_back(engine: Arc<Engine>, lease: Lease) {
    // If the store is away, the next look finds it again.
    let Ok(rows) = engine.store.fetch(&[lease.job]).await else { return };
    for job in rows.into_iter().flatten().filter(|job| job.epoch == lease.epoch) {
        tracing::warn!(job.id = %job.id, "the database says that this job runs here, and it does not: handed back");
        let (attempt, ran_for) = (job.attempt, std::time::Duration::ZERO);
        let conclusion = Conclusion { engine: &engine, job: &job, attempt, lease, ran_for };
        conclusion.write(Event::Release, None, None).await;
    }
}
