//! Promotion: the valve between what is due and what the broker holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;

use super::Database;
use super::steps::{accept, failing, finish, join, lazy, promoted, queue, queue_all, read, together};
use crate::clock;
use crate::job::transition::Retry;
use crate::job::{JobId, Lane, NewJob, Priority, State};
use crate::store::Store;
use crate::testing::eventually;
use crate::testing::factory;

fn waiting() -> NewJob {
    NewJob { admit: false, ..factory::job() }
}

async fn accept_waiting(store: &dyn Store, count: usize, lane: &Lane) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| NewJob { lane: lane.clone(), ..waiting() }).collect();
    store.accept(&jobs).await.expect("accepted");
    jobs.into_iter().map(|job| job.id).collect()
}

pub async fn a_due_job_is_queued_for_publishing(db: &impl Database) {
    let store = db.store();
    let _session = join(&store).await;
    let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let lane = Lane { queue: "default".to_owned(), priority: Priority::Low };
    let id = accept(&store, NewJob { traceparent: traceparent.clone(), lane: lane.clone(), ..waiting() }).await;
    let before = read(&store, id).await;
    let dispatches = store.promote(100, 100).await.expect("promoted");
    let [dispatch] = &dispatches[..] else { panic!("expected one dispatch, not {dispatches:?}") };
    assert_eq!((&dispatch.lane, &dispatch.traceparent), (&lane, &traceparent));
    assert_eq!((dispatch.pointer.id, dispatch.pointer.epoch), (id, before.epoch + 1));
    let job = read(&store, id).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Queued, before.epoch + 1, 0));
    assert_eq!(job.queued_at.expect("queued").timestamp_micros(), dispatch.pointer.queued_at);
    assert_eq!(job.run_at, before.run_at);
    assert!(store.promote(100, 100).await.expect("promoted").is_empty(), "it is promoted once");
}

pub async fn a_lane_is_filled_up_to_its_window(db: &impl Database) {
    let store = db.store();
    let _session = join(&store).await;
    let (normal, high) = (factory::lane("default"), Lane { priority: Priority::High, ..factory::lane("default") });
    queue_all(&store, &factory::jobs(5)).await;
    let first = accept_waiting(&*store, 10, &normal).await;
    let urgent = accept_waiting(&*store, 10, &high).await;
    let dispatches = store.promote(8, 1000).await.expect("promoted");
    let ids = |lane: &Lane| {
        let of_lane = dispatches.iter().filter(|dispatch| dispatch.lane == *lane);
        of_lane.map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&normal), first[..3], "five of eight were there");
    assert_eq!(ids(&high), urgent[..8], "the other lane has a window of its own");
    assert!(store.promote(8, 1000).await.expect("promoted").is_empty(), "the windows are full");
    assert_eq!(store.promote(9, 1000).await.expect("promoted").len(), 2);
}

pub async fn promotion_takes_the_oldest_due_first(db: &impl Database) {
    let store = db.store();
    let _session = join(&store).await;
    // The first in time of acceptance is the last to be due, as far as acceptance is in time: what is accepted after it was
    // due is due then.
    let soon = clock::now() + TimeDelta::milliseconds(400);
    let mut due = BTreeMap::new();
    for n in 0..6 {
        let run_at = Some(soon - TimeDelta::milliseconds(50 * n));
        let id = accept(&store, NewJob { run_at, ..waiting() }).await;
        due.insert(read(&store, id).await.run_at, id);
    }
    let ids: Vec<_> = due.into_values().collect();
    let last = *ids.last().expect("six");
    eventually("all are due", async || read(&store, last).await.due.then_some(())).await;
    let mut dispatches = Vec::new();
    for _ in 0..3 {
        let page = store.promote(100, 2).await.expect("promoted");
        assert_eq!(page.len(), 2, "at most the limit");
        dispatches.extend(page);
    }
    assert_eq!(dispatches.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), ids);
    assert!(dispatches.is_sorted_by_key(|dispatch| dispatch.pointer.queued_at));
}

pub async fn future_jobs_are_left_alone(db: &impl Database) {
    let store = db.store();
    let _session = join(&store).await;
    let later = accept(&store, NewJob { delay: Some(Duration::from_secs(600)), ..factory::job() }).await;
    let epoch = read(&store, later).await.epoch;
    assert!(store.promote(100, 100).await.expect("promoted").is_empty());
    let job = read(&store, later).await;
    assert_eq!((job.state, job.epoch), (State::Scheduled, epoch));
}

pub async fn a_job_is_promoted_once_it_comes_due(db: &impl Database) {
    let store = db.store();
    let _session = join(&store).await;
    let id = accept(&store, NewJob { delay: Some(Duration::from_millis(150)), ..factory::job() }).await;
    promoted(&store, id).await;
    let job = read(&store, id).await;
    assert!(job.queued_at.expect("queued") >= job.run_at, "not before its time");
}

pub async fn a_retry_is_promoted_with_its_attempts(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = lazy(session.worker(), queue(&store, factory::job()).await);
    finish(&store, lease, &failing(Retry::After(Duration::ZERO))).await;
    let pointer = promoted(&store, lease.job).await;
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.attempt, job.epoch), (State::Queued, 1, pointer.epoch));
    assert_eq!(job.error.expect("the last attempt's").code, "boom");
}

/// A kind that nobody runs stays where it costs nothing; it must not stop the others either.
pub async fn only_kinds_of_live_workers_are_promoted(db: &impl Database) {
    let store = db.store();
    let known = accept(&store, waiting()).await;
    let unknown = accept(&store, NewJob { kind: "nobody.runs".to_owned(), ..waiting() }).await;
    assert!(store.promote(100, 100).await.expect("promoted").is_empty(), "there is no worker yet");
    let session = join(&store).await;
    let dispatches = store.promote(100, 1).await.expect("promoted");
    assert_eq!(dispatches.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), [known]);
    assert_eq!(read(&store, unknown).await.state, State::Scheduled);
    session.leave().await.expect("left");
    accept(&store, waiting()).await;
    assert!(store.promote(100, 100).await.expect("promoted").is_empty(), "the worker has left");
}

pub async fn racing_promoters_queue_each_job_once(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let _session = join(&here).await;
    let ids: BTreeSet<_> = accept_waiting(&*here, 200, &factory::lane("default")).await.into_iter().collect();
    let pages = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let mut mine = Vec::new();
            for _ in 0..10 {
                mine.extend(store.promote(1000, 50).await.expect("promoted"));
            }
            mine
        }
    }))
    .await;
    let all: Vec<_> = pages.into_iter().flatten().map(|dispatch| dispatch.pointer.id).collect();
    assert_eq!(all.len(), 200, "each is promoted once");
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), ids);
}

pub async fn the_next_due_time_is_known(db: &impl Database) {
    let store = db.store();
    assert_eq!(store.next_due().await.expect("asked"), None);
    accept(&store, NewJob { delay: Some(Duration::from_secs(600)), ..factory::job() }).await;
    queue(&store, factory::job()).await;
    let wait = store.next_due().await.expect("asked").expect("one is scheduled");
    assert!((500..=600).contains(&wait.as_secs()), "{wait:?}");
    accept(&store, waiting()).await;
    assert_eq!(store.next_due().await.expect("asked"), Some(Duration::ZERO), "one is due now");
}
