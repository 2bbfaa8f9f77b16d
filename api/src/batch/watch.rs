//! Following batches: one reader per followed batch in a process, however many follow it.
//!
//! What a follower has not fetched is overtaken by what is newer: it sees the batch as it is, not each step on the way.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offload_common::clock;
use offload_common::job::BatchId;
use offload_common::store::{Batch, Store};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::request::TENANT;

/// The pause between two looks at a batch: while it moves, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looking takes a tenth of the time at most: after an answer that took long, the pause is this many times as long.
const RELIEF: u32 = 10;

/// How far a batch has come. None of its parts ever goes back, so a later mark is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    total: u64,
    ended: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    Sealed,
    Finished,
}

impl Mark {
    /// Whether all of its jobs are final, and none will come. A retry of its failed jobs adds new ones.
    pub(crate) fn is_over(self) -> bool {
        self.phase == Phase::Finished && self.ended == self.total
    }
}

impl From<&Batch> for Mark {
    fn from(batch: &Batch) -> Self {
        let phase = match (batch.finished_at, batch.sealed) {
            (Some(_), _) => Phase::Finished,
            (None, true) => Phase::Sealed,
            (None, false) => Phase::Open,
        };
        Self { total: batch.total, ended: batch.counts.ended(), phase }
    }
}

/// `<total>-<ended>-<phase>`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.total, self.ended, self.phase as u8)
    }
}

impl FromStr for Mark {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.split('-');
            let (total, ended) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let phase = match parts.next()? {
                "0" => Phase::Open,
                "1" => Phase::Sealed,
                "2" => Phase::Finished,
                _ => return None,
            };
            parts.next().is_none().then_some(Self { total, ended, phase })
        };
        read().ok_or("must be the id of an event of a batch, such as 300-17-1")
    }
}

/// The batches that are followed here.
#[derive(Clone)]
pub(crate) struct Watches(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    patience: Duration,
    stop: CancellationToken,
    watched: Mutex<BTreeMap<BatchId, watch::Sender<Arc<Batch>>>>,
}

/// One who follows a batch.
pub(crate) struct Watching {
    seen: Mark,
    batch: watch::Receiver<Arc<Batch>>,
}

impl Watching {
    /// The batch once it is further than this one has seen it; `None` once it is over, or gone.
    pub(crate) async fn next(&mut self) -> Option<Arc<Batch>> {
        if self.seen.is_over() {
            return None;
        }
        let further = |batch: &Arc<Batch>| Mark::from(&**batch) > self.seen;
        let batch = self.batch.wait_for(further).await.ok()?.clone();
        self.seen = Mark::from(&*batch);
        Some(batch)
    }
}

impl Watches {
    pub(crate) fn new(store: Arc<dyn Store>, patience: Duration, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner { store, patience, stop, watched: Mutex::default() }))
    }

    /// Follows a batch, read just now, by one who has seen it up to this mark.
    pub(crate) fn follow(&self, batch: Batch, seen: Mark) -> Watching {
        let id = batch.id;
        let mut watched = self.0.watched();
        if let Some(sender) = watched.get(&id) {
            return Watching { seen, batch: sender.subscribe() };
        }
        let (sender, receiver) = watch::channel(Arc::new(batch));
        watched.insert(id, sender.clone());
        tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(self.0.clone().read(id, sender)));
        Watching { seen, batch: receiver }
    }
}

impl Inner {
    fn watched(&self) -> MutexGuard<'_, BTreeMap<BatchId, watch::Sender<Arc<Batch>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a batch again and again, until it is over or gone, or nobody follows it any more.
    async fn read(self: Arc<Self>, id: BatchId, sender: watch::Sender<Arc<Batch>>) {
        let mut pause = FIRST_PAUSE;
        let mut rest = pause;
        loop {
            sleep(rest).await;
            if self.is_left(id, &sender) {
                return;
            }
            let asked = clock::instant();
            pause = (pause * 2).min(LONGEST_PAUSE);
            match timeout(self.patience, self.store.batch(TENANT, id)).await {
                Ok(Ok(Some(batch))) => {
                    let mark = Mark::from(&batch);
                    if mark > Mark::from(&**sender.borrow()) {
                        pause = FIRST_PAUSE;
                        sender.send_replace(Arc::new(batch));
                    }
                    if mark.is_over() {
                        break;
                    }
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => tracing::debug!(%error, %id, "a followed batch could not be read"),
                Err(_) => tracing::debug!(%id, "a followed batch could not be read in time"),
            }
            rest = pause.max(asked.elapsed() * RELIEF);
        }
        self.watched().remove(&id);
    }

    /// Forgets a batch that nobody follows; nobody can begin to in between.
    fn is_left(&self, id: BatchId, sender: &watch::Sender<Arc<Batch>>) -> bool {
        let mut watched = self.watched();
        let left = sender.receiver_count() == 0;
        if left {
            watched.remove(&id);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use offload_common::store::Batches;
    use offload_common::testing::eventually;
    use serde_json::json;

    use super::*;
    use crate::testing::TestApp;

    /// How many batches are read.
    fn count(watches: &Watches) -> usize {
        watches.0.watched().len()
    }

    #[tokio::test]
    async fn however_many_follow_a_batch_it_is_read_by_one_for_as_long_as_they_do() {
        let app = TestApp::start().await;
        let job = json!({"kind": "test.kind", "payload": {"value": 1}});
        let id: BatchId = app.post("/v1/batches", &[], json!({"jobs": [job]})).await.json()["id"]
            .as_str()
            .expect("a text")
            .parse()
            .expect("an id");
        let watches = Watches::new(app.store.clone(), Duration::from_secs(10), app.stop.clone());
        let read = async || app.store.batch(TENANT, id).await.expect("read").expect("there");
        let mut all = Vec::new();
        for _ in 0..3 {
            let batch = read().await;
            let seen = Mark::from(&batch);
            all.push(watches.follow(batch, seen));
        }
        assert_eq!(count(&watches), 1);
        app.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
        for watching in &mut all {
            assert!(Mark::from(&*watching.next().await.expect("further")).is_over());
            assert!(watching.next().await.is_none());
        }
        eventually("nobody reads what is over", async || (count(&watches) == 0).then_some(())).await;
    }

    #[tokio::test]
    async fn a_batch_that_nobody_follows_any_more_is_not_read() {
        let app = TestApp::start().await;
        let answer = app.post("/v1/batches", &[], json!({"jobs": [], "sealed": false})).await.json();
        let id: BatchId = answer["id"].as_str().expect("a text").parse().expect("an id");
        let watches = Watches::new(app.store.clone(), Duration::from_secs(10), app.stop.clone());
        let batch = app.store.batch(TENANT, id).await.expect("read").expect("there");
        let seen = Mark::from(&batch);
        let watching = watches.follow(batch, seen);
        assert_eq!(count(&watches), 1);
        drop(watching);
        eventually("it is forgotten", async || (count(&watches) == 0).then_some(())).await;
    }

    #[test]
    fn marks_are_read_as_they_are_written_and_grow() {
        let marks = ["1-0-0", "2-0-0", "2-1-0", "2-1-1", "2-2-2", "3-2-2", "3-3-2"];
        let read: Vec<Mark> = marks.iter().map(|text| text.parse().expect("a mark")).collect();
        assert!(read.is_sorted_by(|a, b| a < b));
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), marks);
        assert_eq!(
            read.iter().map(|mark| mark.is_over()).collect::<Vec<_>>(),
            [false, false, false, false, true, false, true]
        );
        for bad in ["", "1", "1-2", "1-2-3", "1-2-1-1", "-1-2-1", "a-b-c", "1-2-"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
