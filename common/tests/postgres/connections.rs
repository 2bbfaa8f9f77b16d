//! Connections come and go; what is asked of the store does not notice for long.

use std::time::Duration;

use offload_common::clock;
use offload_common::store::{Error, JobFilter, Retention, Steal, Store};
use offload_common::testing::eventually;
use offload_common::testing::factory;
use sqlx::Connection;

use crate::harness::{
    Harness, STATEMENT_TIMEOUT, WAITING, claim_of, left_running, number, queue, run, running, success, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_at_once_and_found_again() {
    let (harness, _first) = Harness::start().await;
    let (store, proxy) = harness.behind_a_proxy("behind").await;
    store.ready().await.expect("it is there");
    let mut session = store.join(&factory::worker(&["k"])).await.expect("joined");
    proxy.cut();
    for _ in 0..3 {
        let started = clock::instant();
        let refused = store.accept(&[factory::job()]).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        assert!(matches!(session.beat().await, Err(Error::Unavailable(_))));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    proxy.restore();
    queue(&store, factory::job()).await;
    session.beat().await.expect("it connected again");
}

/// All connections break at once, as when the server restarts: one call at most pays for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_pays_for_a_restart() {
    let (harness, _first) = Harness::start().await;
    let (store, mut proxy) = harness.behind_a_proxy("behind").await;
    // Several connections, all idle in the end.
    let (a, b, c) = tokio::join!(store.ready(), store.ready(), store.ready());
    a.and(b).and(c).expect("it is there");
    assert!(proxy.connections() > 1);
    proxy.disconnect();
    proxy.wait_for_connections(|open| open == 0).await;
    let failures = [store.ready().await, store.ready().await, store.ready().await];
    assert!(failures[0].is_err() && failures[1].is_ok() && failures[2].is_ok(), "{failures:?}");
}

/// A network that swallows packets: the call ends by its own clock, and the connection is not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_ends_a_call() {
    let (harness, _first) = Harness::start().await;
    let (store, proxy) = harness.behind_a_proxy("behind").await;
    store.ready().await.expect("it is there");
    proxy.stall();
    let started = clock::instant();
    let hung = store.ready().await;
    assert!(matches!(hung, Err(Error::Unavailable(_))), "{hung:?}");
    assert!(started.elapsed() >= STATEMENT_TIMEOUT, "the server's own time-out comes first");
    let connecting = store.ready().await;
    assert!(matches!(connecting, Err(Error::Unavailable(_))), "{connecting:?}");
    proxy.restore();
    store.ready().await.expect("it is there again");
}

/// A caller that goes away in the middle of a statement leaves no transaction and no lock behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_leaves_nothing_behind() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let lease = left_running(&store).await;
    let mut holder = harness.connect().await;
    run(&mut holder, "BEGIN; SELECT FROM offload.jobs FOR UPDATE").await;
    for _ in 0..10 {
        let write = success(lease);
        tokio::select! {
            biased;
            finished = store.finish(std::slice::from_ref(&write)) => panic!("the row is locked: {finished:?}"),
            () = async {
                // It is under way, and waits.
                eventually("the finish waits", || async {
                    let mut look = harness.connect().await;
                    (number(&mut look, WAITING).await > 0).then_some(())
                }).await;
            } => {}
        }
        run(
            &mut beside,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await;
        until(&mut beside, WAITING, 0).await;
    }
    run(&mut holder, "ROLLBACK").await;
    assert_eq!(store.finish(&[success(lease)]).await.expect("written").len(), 1);
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    until(&mut beside, idle, 0).await;
}

/// However many callers there are, the process keeps to its connections; transactions of handlers do not use them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_keeps_to_its_connections() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let session = store.join(&factory::worker(&["k"])).await.expect("joined");
    let mut transactions = Vec::new();
    for _ in 0..4 {
        let lease = running(&store, session.worker()).await;
        transactions.push(store.begin(&lease).await.expect("begun"));
    }
    let lease = running(&store, session.worker()).await;
    let mut fifth = std::pin::pin!(store.begin(&lease));
    assert!(futures_util::poll!(&mut fifth).is_pending(), "it waits for its turn");
    let calls = (0..50).map(|_| async {
        store.ready().await.expect("read");
        queue(&store, factory::job()).await;
    });
    futures_util::future::join_all(calls).await;
    let connections = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND starts_with(application_name, 'first/')";
    let open = number(&mut beside, connections).await;
    assert!((6..=8).contains(&open), "{open} connections");
    drop(transactions.pop());
    fifth.await.expect("its turn came");
    store.close().await;
}

/// Every statement says who it is from, and keeps to UTC and its time-outs whatever the role's own settings are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_does_not_depend_on_the_roles_settings() {
    let harness = Harness::empty().await;
    let mut beside = harness.connect().await;
    let name = number(&mut beside, "SELECT oid FROM pg_database WHERE datname = current_database()").await;
    run(
        &mut beside,
        &format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kathmandu''', current_database());
             EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
             EXECUTE format('ALTER DATABASE %I SET search_path = nowhere', current_database());
             EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$; -- {name}"
        ),
    )
    .await;
    let store = harness.store("settled");
    store.migrate().await.expect("migrated");
    let lease = left_running(&store).await;
    let job = store.job(factory::TENANT, lease.job).await.expect("read").expect("there");
    assert!((job.created_at - clock::now()).num_hours().abs() < 1, "{}", job.created_at);
    let mut transaction = store.begin(&lease).await.expect("begun");
    let settings = "DO $$ BEGIN
        ASSERT current_setting('TimeZone') = 'UTC';
        ASSERT current_setting('synchronous_commit') = 'on';
        ASSERT current_setting('transaction_isolation') = 'read committed';
        ASSERT current_setting('statement_timeout') = '2s';
        ASSERT current_setting('enable_seqscan') = 'on' AND current_setting('enable_hashjoin') = 'on';
        ASSERT current_setting('application_name') = 'settled/work';
    END $$";
    transaction.execute(settings, &[]).await.expect("as it should be");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_schema_every_method_says_what_to_run() {
    let harness = Harness::empty().await;
    let store = harness.store("early");
    let id = offload_common::job::JobId::new();
    let pointer = offload_common::store::Pointer { id, epoch: 1, queued_at: 0 };
    let worker = offload_common::job::WorkerId::new();
    let lease = offload_common::job::Lease {
        job: id,
        epoch: 1,
        worker,
        nonce: offload_common::job::Nonce::new(),
        claimed: true,
    };
    let steal = Steal {
        worker,
        queues: vec!["default".into()],
        kinds: vec!["k".into()],
        older_than: Some(Duration::ZERO),
        lost_older_than: Duration::ZERO,
        suspects: true,
        limit: 1,
    };
    let reap = offload_common::store::ReapPolicy { lease: Duration::from_secs(20), judge: None };
    let keep = Retention { jobs: Duration::ZERO, files: Duration::ZERO, idempotency_keys: Duration::ZERO };
    let filter = JobFilter { ..factory::filter() };
    let answers = [
        ("ready", store.ready().await.map(drop)),
        ("accept", store.accept(&[factory::job()]).await.map(drop)),
        ("depths", store.depths(1).await.map(drop)),
        ("job", store.job("t", id).await.map(drop)),
        ("jobs", store.jobs(&filter).await.map(drop)),
        ("cancel", store.cancel("t", id).await.map(drop)),
        ("logs", store.logs(id, None, 1).await.map(drop)),
        ("add_file", store.add_file(&factory::file()).await),
        ("file", store.file("t", factory::file().id).await.map(drop)),
        ("kinds", store.kinds().await.map(drop)),
        ("workers", store.workers().await.map(drop)),
        ("fetch", store.fetch(&[id]).await.map(drop)),
        ("claim", store.claim(worker, &[claim_of(pointer)]).await.map(drop)),
        ("finish", store.finish(&[success(lease)]).await.map(drop)),
        ("decline", store.decline(&[pointer], Duration::ZERO).await),
        ("begin", store.begin(&lease).await.map(drop)),
        ("join", store.join(&factory::worker(&["k"])).await.map(drop)),
        ("promote", store.promote(1, 1).await.map(drop)),
        ("steal", store.steal(&steal).await.map(drop)),
        ("reap", store.reap(&reap).await.map(drop)),
        ("prune", store.prune(&keep).await.map(drop)),
        ("next_due", store.next_due().await.map(drop)),
    ];
    for (method, answer) in answers {
        assert!(matches!(answer, Err(Error::NotMigrated(_))), "{method}: {answer:?}");
    }
    store.migrate().await.expect("migrated");
    store.ready().await.expect("now it is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_schema_is_not_ready_and_a_changed_one_is_not_touched() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    run(&mut beside, "UPDATE offload.migrations SET version = version - 1000").await;
    let older = store.ready().await;
    assert!(matches!(&older, Err(Error::NotMigrated(text)) if text.contains("version -9")), "{older:?}");
    run(&mut beside, "UPDATE offload.migrations SET version = version + 1000, checksum = 'another'").await;
    let changed = store.migrate().await;
    assert!(matches!(&changed, Err(Error::Corrupt(text)) if text.contains("migration 1")), "{changed:?}");
    beside.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_migrate_at_the_same_time_take_turns() {
    let harness = Harness::empty().await;
    let stores = ["a", "b", "c"].map(|instance| harness.store(instance));
    let applied = futures_util::future::join_all(stores.iter().map(|store| store.migrate())).await;
    let mut names: Vec<String> = applied.into_iter().flat_map(|applied| applied.expect("migrated")).collect();
    names.sort();
    assert_eq!(names.first().map(String::as_str), Some("0001_initial"));
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "each was applied by one of them");
}
