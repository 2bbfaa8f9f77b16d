//! A process that dies is noticed by what it leaves, not by its silence; one that is alive is not taken for dead.

use std::sync::Arc;
use std::time::Duration;

use offload_common::config::DatabaseConfig;
use offload_common::job::State;
use offload_common::store::postgres::PostgresStore;
use offload_common::store::{Beat, Claimed, Judge, ReapPolicy, Reaped, Session, Store};
use offload_common::testing::eventually;
use offload_common::testing::factory;
use sqlx::PgConnection;

use crate::harness::{Harness, WAITING, claim_of, left_running, number, queue, run, running, state_of, until};

/// Long enough that silence has no part in these tests.
const LEASE: Duration = Duration::from_secs(3600);

const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 16716973
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

async fn join(store: &PostgresStore) -> Box<dyn Session> {
    store.join(&factory::worker(&["k"])).await.expect("joined")
}

fn judged_by(judge: &dyn Session) -> Option<Judge> {
    Some(Judge { worker: judge.worker(), steady: true })
}

async fn reap(store: &PostgresStore, judge: &dyn Session) -> Reaped {
    store.reap(&ReapPolicy { lease: LEASE, judge: judged_by(judge) }).await.expect("reaped")
}

async fn reaped_eventually(store: &PostgresStore, judge: &dyn Session) -> Reaped {
    eventually("a worker is reaped", || async {
        let reaped = reap(store, judge).await;
        (!reaped.workers.is_empty()).then_some(reaped)
    })
    .await
}

/// Everybody who did not beat a moment ago is taken for dead.
async fn reap_the_silent(store: &PostgresStore, judge: &dyn Session) -> Reaped {
    store.reap(&ReapPolicy { lease: Duration::ZERO, judge: judged_by(judge) }).await.expect("reaped")
}

fn ids(reaped: &Reaped) -> Vec<offload_common::job::JobId> {
    reaped.requeued.iter().map(|dispatch| dispatch.pointer.id).collect()
}

async fn cut(beside: &mut PgConnection, name: &str) {
    let cut = format!(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE '{name}'"
    );
    run(beside, &cut).await;
}

fn connections(name: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '{name}'"
    )
}

/// The process is gone without a word: its sockets close, nothing else happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_is_reaped_by_what_it_leaves() {
    let (harness, store) = Harness::start().await;
    let mut alive = join(&store).await;
    let process = harness.store("dead");
    let dead = join(&process).await;
    let dead_id = dead.worker();
    let (lost, kept) = (running(&store, dead_id).await, running(&store, alive.worker()).await);
    assert!(reap(&store, &*alive).await.workers.is_empty(), "both are alive");
    drop((dead, process));
    let reaped = reaped_eventually(&store, &*alive).await;
    assert_eq!((&reaped.workers[..], &ids(&reaped)[..]), (&[dead_id][..], &[lost.job][..]));
    assert_eq!(state_of(&store, kept.job).await, State::Running);
    assert!(matches!(alive.beat().await.expect("beaten"), Beat::Alive { .. }));
}

/// Only the connection that holds the lock is cut: the process has others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_lost_its_session_alone_is_not_taken_for_dead() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let judge = join(&store).await;
    let process = harness.store("other");
    let mut session = join(&process).await;
    running(&process, session.worker()).await;
    until(&mut beside, LOCKS, 2).await;
    cut(&mut beside, "other/session").await;
    until(&mut beside, LOCKS, 1).await;
    // For longer than it takes where nothing is left.
    let lasted = "SELECT (max(backend_start) < now() - interval '5 seconds')::int FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'first/session'";
    eventually("the judge has lasted", || async {
        assert!(reap(&store, &*judge).await.workers.is_empty());
        (number(&mut harness.connect().await, lasted).await == 1).then_some(())
    })
    .await;
    assert!(!session.probe().await.expect("answered"), "it was cut off");
    assert_eq!(number(&mut beside, LOCKS).await, 2, "and has its lock again");
    assert!(session.probe().await.expect("answered"));
    assert!(matches!(session.beat().await.expect("beaten"), Beat::Alive { .. }));
}

/// The server drops everybody, as when it crashes. One worker is back at once, and waits for the others before it judges.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_cut_of_everybody_the_first_to_come_back_waits_for_the_others() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let process = harness.store("slow");
    let (mut judge, slow) = (join(&store).await, join(&process).await);
    let slow_id = slow.worker();
    running(&process, slow_id).await;
    let age = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'first/session' AND backend_start < now() - interval '4 seconds'";
    until(&mut beside, age, 1).await;
    cut(&mut beside, "%/%").await;
    assert!(!judge.probe().await.expect("answered"), "it was cut off");
    assert_eq!(reaped_eventually(&store, &*judge).await.workers, [slow_id]);
    let waited = "SELECT count(*) FROM offload.workers w, pg_stat_activity a
        WHERE a.datname = current_database() AND a.application_name = 'first/session'
        AND w.reaped_at > a.backend_start + interval '3 seconds'";
    assert_eq!(number(&mut beside, waited).await, 1);
}

/// The database's clock jumps, or the machine wakes from sleep: everybody seems to have been silent for an hour.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_kills_nobody() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let (judge, mut other) = (join(&store).await, join(&store).await);
    let policy = ReapPolicy { lease: Duration::from_secs(60), judge: judged_by(&*judge) };
    run(&mut beside, "UPDATE offload.workers SET beat_at = beat_at - interval '1 hour'").await;
    assert!(store.reap(&policy).await.expect("reaped").workers.is_empty(), "it had no time to beat");
    assert!(matches!(other.beat().await.expect("beaten"), Beat::Alive { .. }));
    assert!(store.reap(&policy).await.expect("reaped").workers.is_empty());
}

/// The process hangs with a transaction open: what it holds is freed, and what it wakes up to is that it lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_half_dead_process_holds_is_freed() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    run(&mut beside, "CREATE TABLE notes (n int); INSERT INTO notes VALUES (0)").await;
    let judge = join(&store).await;
    let half_dead = harness.store("half-dead");
    let session = join(&half_dead).await;
    let lease = running(&store, session.worker()).await;
    let mut transaction = half_dead.begin(&lease).await.expect("begun");
    transaction.execute("UPDATE notes SET n = 1", &[]).await.expect("written");
    assert_eq!(reap_the_silent(&store, &*judge).await.workers, [session.worker()]);
    // This waits for as long as the row is locked.
    run(&mut beside, "UPDATE notes SET n = 2").await;
    let late = transaction.finish(&crate::harness::success(lease)).await;
    assert!(late.is_err(), "{late:?}");
    assert_eq!(state_of(&store, lease.job).await, State::Queued);
    assert_eq!(number(&mut beside, "SELECT n FROM notes").await, 2);
}

/// Whoever marked a worker may die before it closes that one's connections: any other does it. Those that it makes
/// afterwards, to come back, are left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_behind_is_closed_by_anybody() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let half_dead = harness.store("half-dead");
    let session = join(&half_dead).await;
    half_dead.ready().await.expect("it has connections");
    run(&mut beside, "UPDATE offload.workers SET reaped_at = now()").await;
    let policy = ReapPolicy { lease: LEASE, judge: None };
    assert!(store.reap(&policy).await.expect("reaped").suspicion, "there is more to do");
    until(&mut beside, &connections("half-dead/%"), 0).await;
    eventually("it is back", || async { half_dead.ready().await.ok() }).await;
    assert!(!store.reap(&policy).await.expect("reaped").suspicion);
    half_dead.ready().await.expect("on the same connection");
    drop(session);
}

/// A process that was fenced and joined again lives under another id: nobody closes its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_come_back_keeps_its_connections() {
    let (harness, store) = Harness::start().await;
    let (other, mut beside) = (harness.store("other"), harness.connect().await);
    let (former, now) = (join(&store).await, join(&store).await);
    let lease = running(&store, now.worker()).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    let mark = format!("UPDATE offload.workers SET reaped_at = now() WHERE id = '{}'", former.worker());
    run(&mut beside, &mark).await;
    for anybody in [&store, &other] {
        anybody.reap(&ReapPolicy { lease: LEASE, judge: None }).await.expect("reaped");
    }
    transaction.execute("CREATE TABLE notes (n int)", &[]).await.expect("the connection is there");
}

/// One of its rows is locked by somebody: the others are taken back at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_locked_holds_up_no_other() {
    let (harness, store) = Harness::start().await;
    let (locked, free) = (left_running(&store).await, left_running(&store).await);
    let mut holder = harness.connect().await;
    run(&mut holder, &format!("BEGIN; SELECT FROM offload.jobs WHERE id = '{}' FOR UPDATE", locked.job)).await;
    let policy = ReapPolicy { lease: LEASE, judge: None };
    assert_eq!(ids(&store.reap(&policy).await.expect("reaped")), [free.job]);
    assert!(ids(&store.reap(&policy).await.expect("reaped")).is_empty());
    run(&mut holder, "ROLLBACK").await;
    assert_eq!(ids(&store.reap(&policy).await.expect("reaped")), [locked.job]);
}

/// A statement that waits for a lock does not outlive the process that asked for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_ends_with_its_process() {
    let (harness, store) = Harness::start().await;
    let (mut beside, mut holder) = (harness.connect().await, harness.connect().await);
    run(&mut holder, "CREATE TABLE notes (n int)").await;
    run(&mut holder, "BEGIN; LOCK TABLE notes").await;
    let config = DatabaseConfig {
        url: None,
        data: "unused".into(),
        max_connections: 4,
        statement_timeout_seconds: LEASE.as_secs_f64(),
    };
    let process = PostgresStore::open(&config, &harness.database.url(), "dead").expect("a URL");
    let session = join(&store).await;
    let lease = running(&store, session.worker()).await;
    let mut transaction = process.begin(&lease).await.expect("begun");
    tokio::select! {
        written = transaction.execute("INSERT INTO notes VALUES (1)", &[]) => panic!("{written:?}"),
        () = until(&mut beside, WAITING, 1) => {}
    }
    drop((transaction, process));
    until(&mut beside, &connections("dead/%"), 0).await;
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
    let reaped = store.reap(&ReapPolicy { lease: LEASE, judge: None }).await.expect("reaped");
    assert_eq!(reaped.requeued.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), [pointer.id]);
}
