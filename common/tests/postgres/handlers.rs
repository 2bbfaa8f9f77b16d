//! What a handler does to its session stays in its transaction.

use offload_common::store::Store;
use offload_common::store::postgres::PostgresStore;
use offload_common::testing::factory;
use sqlx::PgConnection;

use crate::harness::{Harness, left_running, number, queue, run, success};

const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The process behind the connection that the store made last.
async fn backend(beside: &mut PgConnection) -> i64 {
    let newest = "SELECT pid FROM pg_stat_activity
                  WHERE datname = current_database() AND application_name = 'first/work' ORDER BY backend_start DESC";
    number(beside, newest).await
}

/// Runs a job whose handler executes these statements.
async fn handle(store: &PostgresStore, statements: &[&str]) {
    let lease = left_running(store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    for statement in statements {
        transaction.execute(statement, &[]).await.expect(statement);
    }
    transaction.finish(&success(lease)).await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_does_to_its_session_ends_with_its_transaction() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    run(&mut beside, "CREATE TABLE notes (n int)").await;
    handle(&store, &["INSERT INTO notes VALUES (1)"]).await;
    let before = backend(&mut beside).await;
    handle(
        &store,
        &[
            "SELECT pg_advisory_lock(77)",
            "SET search_path = nowhere",
            "SET statement_timeout = '77s'",
            "SET application_name = 'mine'",
            "SET my.setting = 'mine'",
            "DO $$ BEGIN EXECUTE format('SET ROLE %I', current_user); END $$",
            "CREATE TEMP TABLE mine (n int)",
            "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
            "LISTEN mine",
        ],
    )
    .await;
    assert_eq!(number(&mut beside, LOCKS).await, 0);
    assert_eq!(backend(&mut beside).await, before, "the connection is kept all the same");
    let clean = "DO $$ BEGIN
        ASSERT current_setting('search_path') <> 'nowhere' AND current_setting('statement_timeout') = '2s';
        ASSERT current_setting('application_name') = 'first/work' AND current_setting('synchronous_commit') = 'on';
        ASSERT coalesce(current_setting('my.setting', true), '') = '' AND current_setting('role') = 'none';
        ASSERT to_regclass('pg_temp.mine') IS NULL AND NOT EXISTS (SELECT FROM pg_cursors WHERE name = 'mine');
        ASSERT NOT EXISTS (SELECT FROM pg_listening_channels());
    END $$";
    handle(&store, &[clean]).await;
}

/// Statements that are prepared are not forgotten, so a connection on which they are not as they were is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_other_prepared_statements_is_not_used_again() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    handle(&store, &["SELECT 1"]).await;
    let before = backend(&mut beside).await;
    handle(&store, &["PREPARE mine AS SELECT 1"]).await;
    queue(&store, factory::job()).await;
    let after = backend(&mut beside).await;
    assert_ne!(after, before);
    let lease = left_running(&store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("DEALLOCATE ALL", &[]).await.expect("forgotten");
    // It may have forgotten how to finish as well.
    let _ = transaction.finish(&success(lease)).await;
    queue(&store, factory::job()).await;
    assert_ne!(backend(&mut beside).await, after);
}

/// A transaction that came too late is rolled back; what outlives that is gone, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombies_locks_are_freed() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let lease = left_running(&store).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("SELECT pg_advisory_lock(77)", &[]).await.expect("locked");
    run(&mut beside, "UPDATE offload.jobs SET epoch = epoch + 1").await;
    transaction.finish(&success(lease)).await.expect("answered");
    crate::harness::until(&mut beside, LOCKS, 0).await;
}
