//! Following batches.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use offload_common::job::BatchId;
use offload_common::store::{self, Batch, Store};

use crate::request::TENANT;
use crate::watch::{Latest, Watched, Watches};

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
pub(crate) type BatchWatches = Watches<Batch>;

impl Watched for Batch {
    type Key = BatchId;

    async fn read(store: &dyn Store, id: &BatchId, _known: Option<&Self>) -> store::Result<Option<Self>> {
        store.batch(TENANT, *id).await
    }

    fn is_news_to(&self, known: &Self) -> bool {
        Mark::from(self) > Mark::from(known)
    }

    fn is_over(&self) -> bool {
        Mark::from(self).is_over()
    }
}

/// One who follows a batch.
pub(crate) struct Watching {
    seen: Mark,
    batch: Latest<Batch>,
}

impl Watching {
    /// Follows a batch, read just now, by one who has seen it up to this mark.
    pub(crate) fn begin(watches: &BatchWatches, batch: Batch, seen: Mark) -> Self {
        Self { seen, batch: watches.follow(batch.id, Some(batch)) }
    }

    /// The batch once it is further than this one has seen it; `None` once it is over, or gone.
    pub(crate) async fn next(&mut self) -> Option<Arc<Batch>> {
        if self.seen.is_over() {
            return None;
        }
        let further = |batch: &Option<Arc<Batch>>| batch.as_deref().is_some_and(|batch| Mark::from(batch) > self.seen);
        let batch = self.batch.wait_for(further).await.ok()?.clone()?;
        self.seen = Mark::from(&*batch);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use offload_common::store::Batches;
    use offload_common::testing::eventually;
    use serde_json::json;

    use super::*;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn however_many_follow_a_batch_it_is_read_by_one_for_as_long_as_they_do() {
        let app = TestApp::start().await;
        let job = json!({"kind": "test.kind", "payload": {"value": 1}});
        let id: BatchId = app.post("/v1/batches", &[], json!({"jobs": [job]})).await.json()["id"]
            .as_str()
            .expect("a text")
            .parse()
            .expect("an id");
        let watches = BatchWatches::new(app.store.clone(), Duration::from_secs(10), app.stop.clone());
        let read = async || app.store.batch(TENANT, id).await.expect("read").expect("there");
        let mut all = Vec::new();
        for _ in 0..3 {
            let batch = read().await;
            let seen = Mark::from(&batch);
            all.push(Watching::begin(&watches, batch, seen));
        }
        assert_eq!(watches.count(), 1);
        app.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
        for watching in &mut all {
            assert!(Mark::from(&*watching.next().await.expect("further")).is_over());
            assert!(watching.next().await.is_none());
        }
        eventually("nobody reads what is over", async || (watches.count() == 0).then_some(())).await;
    }

    #[tokio::test]
    async fn a_batch_that_nobody_follows_any_more_is_not_read() {
        let app = TestApp::start().await;
        let answer = app.post("/v1/batches", &[], json!({"jobs": [], "sealed": false})).await.json();
        let id: BatchId = answer["id"].as_str().expect("a text").parse().expect("an id");
        let watches = BatchWatches::new(app.store.clone(), Duration::from_secs(10), app.stop.clone());
        let batch = app.store.batch(TENANT, id).await.expect("read").expect("there");
        let seen = Mark::from(&batch);
        let watching = Watching::begin(&watches, batch, seen);
        assert_eq!(watches.count(), 1);
        drop(watching);
        eventually("it is forgotten", async || (watches.count() == 0).then_some(())).await;
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
