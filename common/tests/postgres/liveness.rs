//! A process that dies is noticed by its lock, not by its silence.

use std::sync::Arc;
use std::time::Duration;

use offload_common::job::State;
use offload_common::store::postgres::PostgresStore;
use offload_common::store::{Beat, Claimed, ReapPolicy, Reaped, Session, Store};
use offload_common::testing::eventually;
use offload_common::testing::factory;

use crate::harness::{Harness, WAITING, claim_of, number, queue, run, running, state_of, until};

/// Long enough that silence has no part in these tests, short enough that the server has been up for half of it.
const LEASE: Duration = Duration::from_secs(30);

async fn reap(store: &PostgresStore) -> Reaped {
    store.reap(&ReapPolicy { lease: Some(LEASE) }).await.expect("reaped")
}

async fn reaped_eventually(store: &PostgresStore) -> Reaped {
    eventually("the worker is reaped", || async {
        let reaped = reap(store).await;
        (!reaped.workers.is_empty()).then_some(reaped)
    })
    .await
}

/// The process is gone without a word: its socket closes, nothing else happens.
fn die(session: Box<dyn Session>) {
    drop(session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_is_reaped_by_its_lock() {
    let (_harness, store) = Harness::start().await;
    let (dead, mut alive) = (
        store.join(&factory::worker(&["k"])).await.expect("joined"),
        store.join(&factory::worker(&["k"])).await.expect("joined"),
    );
    let dead_id = dead.worker();
    let (lost, kept) = (running(&store, dead_id).await, running(&store, alive.worker()).await);
    assert!(reap(&store).await.workers.is_empty(), "both are alive");
    die(dead);
    let reaped = reaped_eventually(&store).await;
    assert_eq!(reaped.workers, [dead_id]);
    assert_eq!(reaped.requeued.iter().map(|d| d.pointer.id).collect::<Vec<_>>(), [lost.job]);
    assert_eq!(state_of(&store, kept.job).await, State::Running);
    assert!(matches!(alive.beat().await.expect("beaten"), Beat::Alive { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lost_its_connection_takes_its_lock_again() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let mut session = store.join(&factory::worker(&["k"])).await.expect("joined");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 16716973
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(number(&mut beside, locks).await, 1);
    run(
        &mut beside,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'first/session'",
    )
    .await;
    until(&mut beside, locks, 0).await;
    assert!(reap(&store).await.workers.is_empty(), "a suspicion");
    assert!(matches!(session.beat().await.expect("beaten"), Beat::Alive { .. }));
    assert_eq!(number(&mut beside, locks).await, 1);
    assert!(reap(&store).await.workers.is_empty(), "and no more");
}

/// The process hangs with a transaction open: what it holds is freed, and what it wakes up to is that it lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_half_dead_process_holds_is_freed() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    run(&mut beside, "CREATE TABLE notes (n int); INSERT INTO notes VALUES (0)").await;
    let half_dead = harness.store("half-dead");
    let session = half_dead.join(&factory::worker(&["k"])).await.expect("joined");
    let lease = running(&store, session.worker()).await;
    let mut transaction = half_dead.begin(&lease).await.expect("begun");
    transaction.execute("UPDATE notes SET n = 1", &[]).await.expect("written");
    die(session);
    reaped_eventually(&store).await;
    // This waits for as long as the row is locked.
    run(&mut beside, "UPDATE notes SET n = 2").await;
    let late = transaction.finish(&crate::harness::success(lease)).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(state_of(&store, lease.job).await, State::Queued);
    assert_eq!(number(&mut beside, "SELECT n FROM notes").await, 2);
}

/// The claim began while its worker was a member, and is written after the mark: the next pass takes it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_commits_after_the_mark_is_taken_back() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let store = Arc::new(store);
    let session = store.join(&factory::worker(&["k"])).await.expect("joined");
    let pointer = queue(&store, factory::job()).await;
    let mut holder = harness.connect().await;
    run(&mut holder, "BEGIN; SELECT FROM offload.jobs FOR UPDATE").await;
    let (claimer, worker) = (store.clone(), session.worker());
    let claim = tokio::spawn(async move { claimer.claim(worker, &[claim_of(pointer)]).await });
    until(&mut beside, WAITING, 1).await;
    run(&mut beside, "UPDATE offload.workers SET reaped_at = now()").await;
    run(&mut holder, "ROLLBACK").await;
    let claimed = claim.await.expect("no panic").expect("claimed");
    assert!(matches!(claimed[..], [Claimed::Granted(_)]), "{claimed:?}");
    let reaped = store.reap(&ReapPolicy { lease: None }).await.expect("reaped");
    assert_eq!(reaped.requeued.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), [pointer.id]);
}

/// A process that was fenced and joined again reaps its own former life, and lives through that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_does_not_close_its_own_connections() {
    let (_harness, store) = Harness::start().await;
    let former = store.join(&factory::worker(&["k"])).await.expect("joined");
    let now = store.join(&factory::worker(&["k"])).await.expect("joined");
    let former_id = former.worker();
    let lease = running(&store, now.worker()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    die(former);
    assert_eq!(reaped_eventually(&store).await.workers, [former_id]);
    transaction.execute("CREATE TABLE notes (n int)", &[]).await.expect("the connection is there");
    drop(now);
}
