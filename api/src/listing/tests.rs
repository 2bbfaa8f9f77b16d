//! Lists, and who follows them.

use std::time::Duration;

use offload_common::testing::eventually;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::request::TENANT;
use crate::testing::TestApp;

fn filter(tag: &str) -> JobFilter {
    JobFilter { tenant: TENANT.to_owned(), tag: Some(tag.to_owned()), limit: 10, ..JobFilter::default() }
}

fn watches(app: &TestApp) -> ListWatches {
    ListWatches::new(app.store.clone(), Duration::from_secs(10), app.stop.clone())
}

#[tokio::test]
async fn however_many_follow_a_list_it_is_read_by_one_for_as_long_as_they_do() {
    let app = TestApp::start().await;
    let watches = watches(&app);
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::begin(&watches, filter("a"))).collect();
    let other = Reader::begin(&watches, filter("b"));
    assert_eq!(watches.count(), 2);
    for reader in &mut readers {
        assert!(reader.first(None).await.expect("an event").contains("event: list\ndata: {\"items\":[]}"));
    }
    let id = app.submit(json!({"tags": ["a"]})).await.to_string();
    for reader in &mut readers {
        let event = reader.next().await.expect("an event");
        assert!(event.contains("event: changes") && event.contains(&id), "{event}");
    }
    drop(readers);
    eventually("one is left", async || (watches.count() == 1).then_some(())).await;
    drop(other);
    eventually("none is left", async || (watches.count() == 0).then_some(())).await;
}

#[test]
fn marks_are_read_as_they_are_written() {
    for mark in [0, 1, 0xabc, u64::MAX] {
        assert_eq!(ListMark(mark).to_string().parse(), Ok(ListMark(mark)));
    }
    for bad in
        ["", "1", "9f86d081884c7d6", "9f86d081884c7d651", "9F86D081884C7D65", "+f86d081884c7d65", "9f86d081884c7dé"]
    {
        assert!(bad.parse::<ListMark>().is_err(), "{bad}");
    }
}

/// A list of these jobs, each with a version.
fn listing(jobs: &[(u8, u8)], known: Option<&Listing>) -> Listing {
    let written = jobs.iter().map(|(id, version)| {
        let id = JobId(uuid::Uuid::from_u128(u128::from(*id)));
        (id, Arc::from(to_raw_value(&json!({"id": id, "version": version})).expect("JSON")))
    });
    Listing::of(written.collect(), known)
}

/// A client: it does with events what the documentation says.
#[derive(Default)]
struct Client(Vec<Value>);

impl Client {
    fn take(&mut self, event: &str) {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        if event.contains("event: list\n") {
            self.0 = data["items"].as_array().expect("jobs").clone();
            return;
        }
        let changed = data["changed"].as_array().expect("jobs");
        let removed = data["removed"].as_array().expect("ids");
        self.0.retain(|job| !removed.contains(&job["id"]) && !changed.iter().any(|new| new["id"] == job["id"]));
        self.0.extend(changed.iter().cloned());
        self.0.sort_by_key(|job| std::cmp::Reverse(job["id"].to_string()));
    }

    fn jobs(&self) -> Vec<(JobId, u64)> {
        let job = |job: &Value| {
            (
                job["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"),
                job["version"].as_u64().expect("a number"),
            )
        };
        self.0.iter().map(job).collect()
    }
}

proptest! {
    /// Whichever readings a follower sees and whichever it misses: it has what is in the last that it has seen.
    #[test]
    fn events_lead_from_any_list_to_any_later_one(
        lists in prop::collection::vec((prop::collection::btree_map(0_u8..8, 0_u8..3, 0..6), any::<bool>()), 1..8),
    ) {
        let (mut client, mut told, mut known) = (Client::default(), None::<Listing>, None::<Listing>);
        for (jobs, is_seen) in lists {
            let jobs: Vec<(u8, u8)> = jobs.into_iter().rev().collect();
            let now = listing(&jobs, known.as_ref());
            if is_seen || told.is_none() {
                client.take(&told.as_ref().map_or_else(|| now.whole(), |told| now.since(told)));
                let expected: Vec<_> = jobs.iter().map(|(id, version)| (JobId(uuid::Uuid::from_u128(u128::from(*id))), u64::from(*version))).collect();
                prop_assert_eq!(client.jobs(), expected);
                told = Some(listing(&jobs, None));
            }
            known = Some(now);
        }
    }
}
