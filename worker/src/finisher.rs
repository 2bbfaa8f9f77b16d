//! Writes the ends of runs, many at a time, until each is known.

use std::sync::Arc;
use std::time::Duration;

use offload_common::batch::Batcher;
use offload_common::broker::{Broker, Signal};
use offload_common::job::JobId;
use offload_common::retry;
use offload_common::store::{Error, Finish, Finished, Store};

// Ends per statement, and statements at once.
const MOST: usize = 500;
const WRITERS: usize = 2;
// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The store's answer.
    Known(Finished),
    /// The store refuses this one, and would again.
    Refused(String),
}

/// Writes the ends of runs.
pub(crate) struct Finisher {
    batches: Batcher<Finish, Written>,
    broker: Arc<dyn Broker>,
}

impl Finisher {
    /// Starts the writers. They tell the broker what changed.
    pub(crate) fn spawn(store: Arc<dyn Store>, broker: Arc<dyn Broker>) -> Self {
        let announcing = broker.clone();
        let batches = Batcher::spawn(WRITERS, MOST, move |batch: Vec<Finish>| {
            let (store, broker) = (store.clone(), announcing.clone());
            async move {
                let written = write(&*store, &batch).await;
                let ends = batch.iter().zip(&written);
                let applied = ends.filter(|(_, written)| matches!(written, Written::Known(Finished::Applied(_))));
                announce(&*broker, applied.map(|(finish, _)| finish.lease.job).collect()).await;
                written
            }
        });
        Self { batches, broker }
    }

    /// Writes one end, with others that come at the same time. A store that is away is waited for: the end is tried until
    /// it is known, and the epoch decides.
    pub(crate) async fn write(&self, finish: Finish) -> Written {
        // The writers end with the process; so does whoever waits here.
        self.batches.submit(finish).await.unwrap_or(Written::Known(Finished::Lost))
    }

    /// Tells whoever waits for this job that it changed.
    pub(crate) async fn announce(&self, job: JobId) {
        announce(&*self.broker, vec![job]).await;
    }
}

async fn announce(broker: &dyn Broker, jobs: Vec<JobId>) {
    if !jobs.is_empty() {
        broker.signal(Signal::Changed(jobs)).await;
    }
}

/// Writes a batch. One that is refused is halved until those that are to blame stand alone.
async fn write(store: &dyn Store, batch: &[Finish]) -> Vec<Written> {
    let mut written = Vec::with_capacity(batch.len());
    let mut parts = vec![batch];
    while let Some(part) = parts.pop() {
        match until_known(store, part).await {
            Ok(answers) => written.extend(answers.into_iter().map(Written::Known)),
            Err(why) if part.len() == 1 => written.push(Written::Refused(why)),
            Err(_) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    written
}

/// The store's answers, or why it refuses at least one of these.
async fn until_known(store: &dyn Store, part: &[Finish]) -> Result<Vec<Finished>, String> {
    retry::until_reached("writing the ends of jobs", LONGEST_PAUSE, async || match store.finish(part).await {
        Ok(answers) => Ok(Ok(answers)),
        Err(Error::Rejected(why) | Error::Corrupt(why)) => Ok(Err(why)),
        Err(away @ (Error::Unavailable(_) | Error::NotMigrated(_))) => Err(away),
    })
    .await
}
