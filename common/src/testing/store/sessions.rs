//! Membership: beats, and what others see of a worker.

use std::time::Duration;

use super::Database;
use super::steps::{accept, claim, join, orphaned, queue, queued_after_losses, running};
use crate::job::NewJob;
use crate::store::{Beat, RegisteredKind};
use crate::testing::eventually;
use crate::testing::factory::{self, TENANT};

pub async fn a_beat_tells_which_jobs_to_cancel(db: &impl Database) {
    let store = db.store();
    let (mut mine, mut theirs) = (join(&store).await, join(&store).await);
    let nothing = Beat::Alive { cancel: Vec::new() };
    assert_eq!(mine.beat().await.expect("beaten"), nothing);
    let doomed = running(&store, mine.worker(), factory::job()).await.job;
    running(&store, mine.worker(), factory::job()).await;
    store.cancel(TENANT, doomed).await.expect("asked");
    assert_eq!(mine.beat().await.expect("beaten"), Beat::Alive { cancel: vec![doomed] });
    assert_eq!(mine.beat().await.expect("beaten"), Beat::Alive { cancel: vec![doomed] }, "until it has stopped");
    assert_eq!(theirs.beat().await.expect("beaten"), nothing, "only its own");
}

pub async fn a_live_worker_is_listed(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    assert!(here.workers().await.expect("listed").is_empty());
    let info = factory::worker(&["kind.a", "kind.b"]);
    let mut session = here.join(&info).await.expect("joined");
    running(&here, session.worker(), factory::job()).await;
    session.beat().await.expect("beaten");
    let workers = there.workers().await.expect("listed");
    let [worker] = &workers[..] else { panic!("expected one worker, not {workers:?}") };
    assert_eq!(worker.id, session.worker());
    assert_eq!((&worker.host, worker.pid, &worker.version), (&info.host, info.pid, &info.version));
    assert_eq!((worker.slots, &worker.queues), (info.slots, &info.queues));
    let mut kinds = worker.kinds.clone();
    kinds.sort();
    assert_eq!(kinds, ["kind.a", "kind.b"]);
    assert!(worker.beat_at >= worker.started_at);
    assert_eq!(worker.running, 1);
    session.leave().await.expect("left");
    assert!(there.workers().await.expect("listed").is_empty());
}

/// What a worker could start, and nothing else.
pub async fn work_that_waits_for_a_worker_is_known(db: &impl Database) {
    let store = db.store();
    let mut session = join(&store).await;
    let mut waits = async || session.overdue(Duration::ZERO).await.expect("asked");
    queue(&store, NewJob { lane: factory::lane("elsewhere"), ..factory::job() }).await;
    queue(&store, NewJob { kind: "nobody.runs".to_owned(), ..factory::job() }).await;
    queued_after_losses(&store, 2).await;
    accept(&store, NewJob { admit: false, ..factory::job() }).await;
    orphaned(&store, factory::job()).await;
    assert!(!waits().await);
    let pointer = queue(&store, factory::job()).await;
    eventually("it waits", async || waits().await.then_some(())).await;
    assert!(!session.overdue(Duration::from_secs(3600)).await.expect("asked"), "not for that long");
    claim(&store, session.worker(), pointer).await;
    assert!(!session.overdue(Duration::ZERO).await.expect("asked"));
}

pub async fn kinds_outlive_the_workers_that_registered_them(db: &impl Database) {
    let store = db.store();
    assert!(store.kinds().await.expect("listed").is_empty());
    let known = async || {
        let mut kinds = store.kinds().await.expect("listed");
        kinds.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        kinds.into_iter().map(|RegisteredKind { spec, live }| (spec, live)).collect::<Vec<_>>()
    };
    let first = store.join(&factory::worker(&["kind.a", "kind.b"])).await.expect("joined");
    let (a, b) = (factory::kind("kind.a"), factory::kind("kind.b"));
    assert_eq!(known().await, [(a.clone(), true), (b.clone(), true)]);
    let newer = crate::kind::KindSpec {
        description: "Changed — \"newer\"".to_owned(),
        payload_schema: serde_json::json!({"type": "object", "required": ["größe"]}),
        ..b.clone()
    };
    let mut info = factory::worker(&["kind.b"]);
    info.kinds = vec![newer.clone()];
    let second = store.join(&info).await.expect("joined");
    assert_eq!(known().await, [(a.clone(), true), (newer.clone(), true)], "the latest registration holds");
    first.leave().await.expect("left");
    assert_eq!(known().await, [(a.clone(), false), (newer.clone(), true)]);
    second.leave().await.expect("left");
    assert_eq!(known().await, [(a, false), (newer, false)]);
}
