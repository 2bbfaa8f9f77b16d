//! Writes the ends of runs, many at a time, until each is known.
//!
//! An end that had no answer in company goes on alone, so that one that the database cannot digest (it times out each
//! time, say) holds up nobody else.

use std::sync::Arc;
use std::time::Duration;

use offload_common::batch::{Batcher, Unanswered, parts};
use offload_common::broker::{Broker, Signal};
use offload_common::job::JobId;
use offload_common::store::{Error, Finish, Finished, Store};
use offload_common::{panics, retry};

// Ends per statement, their bytes of results (unless a single one has more), and statements at once.
const MOST: usize = 500;
const MOST_BYTES: usize = 16 << 20;
const WRITERS: usize = 2;
// Tries of several ends together; the pause after the first, doubled with each.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of an end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// The store's answer.
    Known(Finished),
    /// The store refuses this one, and would again.
    Refused(String),
    /// Nobody knows, and nobody tries any more.
    Unknown,
}

/// What a try to write an end came to.
enum Tried {
    Known(Finished),
    Refused(String),
    Away(String),
}

/// Writes the ends of runs.
pub(crate) struct Finisher {
    together: Batcher<Finish, Tried>,
    alone: Batcher<Finish, Tried>,
    broker: Arc<dyn Broker>,
}

impl Finisher {
    /// Starts the writers. They tell the broker what changed.
    pub(crate) fn spawn(store: Arc<dyn Store>, broker: Arc<dyn Broker>) -> Self {
        let batcher = |most| {
            let (store, broker) = (store.clone(), broker.clone());
            Batcher::spawn(WRITERS, most, move |batch: Vec<Finish>| {
                let (store, broker) = (store.clone(), broker.clone());
                async move {
                    let tried = write(&*store, &batch).await;
                    let ends = batch.iter().zip(&tried);
                    let applied = ends.filter(|(_, tried)| matches!(tried, Tried::Known(Finished::Applied(_))));
                    announce(&*broker, applied.map(|(finish, _)| finish.lease.job).collect()).await;
                    tried
                }
            })
        };
        Self { together: batcher(MOST), alone: batcher(1), broker }
    }

    /// Writes one end, with others that come at the same time. A store that is away is waited for: the end is tried until
    /// it is known, and the epoch decides.
    pub(crate) async fn write(&self, finish: Finish) -> Written {
        if let Ok(written) = answer(self.together.submit(finish.clone()).await) {
            return written;
        }
        let what = format!("writing the end of job {}", finish.lease.job);
        let alone = async || answer(self.alone.submit(finish.clone()).await);
        retry::until_reached(&what, LONGEST_PAUSE, alone).await
    }

    /// Tells whoever follows these jobs that they changed.
    pub(crate) async fn announce(&self, jobs: Vec<JobId>) {
        announce(&*self.broker, jobs).await;
    }
}

/// What a try means, or why there is to be another.
fn answer(tried: Result<Tried, Unanswered>) -> Result<Written, String> {
    match tried {
        Ok(Tried::Known(finished)) => Ok(Written::Known(finished)),
        Ok(Tried::Refused(why)) => Ok(Written::Refused(why)),
        Ok(Tried::Away(why)) => Err(why),
        Err(Unanswered::Closed | Unanswered::Panicked(_)) => Ok(Written::Unknown),
    }
}

/// Tells whoever follows these jobs that they changed.
pub(crate) async fn announce(broker: &dyn Broker, jobs: Vec<JobId>) {
    if !jobs.is_empty() {
        broker.signal(Signal::Changed(jobs)).await;
    }
}

/// Writes a batch, in as few statements as it takes. One that is refused is halved until those that are to blame stand
/// alone; one that has no answer is tried again, then each of its ends is.
async fn write(store: &dyn Store, batch: &[Finish]) -> Vec<Tried> {
    let bytes = |finish: &Finish| finish.result.as_ref().map_or(0, |result| result.get().len());
    let mut tried = Vec::with_capacity(batch.len());
    let mut todo: Vec<_> = parts(batch, MOST_BYTES, bytes).into_iter().map(|part| &batch[part]).rev().collect();
    while let Some(part) = todo.pop() {
        match (try_together(store, part).await, part) {
            (Ok(answers), _) => tried.extend(answers.into_iter().map(Tried::Known)),
            (Err(Error::Rejected(why) | Error::Corrupt(why)), [_]) => tried.push(Tried::Refused(why)),
            (Err(away), [_]) => tried.push(Tried::Away(away.to_string())),
            (Err(Error::Rejected(_) | Error::Corrupt(_)), _) => {
                let (first, second) = part.split_at(part.len() / 2);
                todo.extend([second, first]);
            }
            (Err(_), _) => todo.extend(part.chunks(1).rev()),
        }
    }
    tried
}

/// The store's answers. Several ends are worth some patience: apart, they cost a statement each.
async fn try_together(store: &dyn Store, part: &[Finish]) -> Result<Vec<Finished>, Error> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..if part.len() > 1 { TRIES } else { 1 } {
        match try_once(store, part).await {
            Err(error @ (Error::Unavailable(_) | Error::NotMigrated(_))) => {
                tracing::warn!(%error, ends = part.len(), "the ends of jobs could not be written; trying again");
            }
            known => return known,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    try_once(store, part).await
}

/// What makes this program panic twice would do so again, like what the store refuses.
async fn try_once(store: &dyn Store, part: &[Finish]) -> Result<Vec<Finished>, Error> {
    if let Ok(answer) = panics::caught(store.finish(part)).await {
        return answer;
    }
    panics::caught(store.finish(part)).await.unwrap_or_else(|why| Err(Error::Rejected(why)))
}
