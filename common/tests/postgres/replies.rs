//! The write went through and its reply did not: trying again finds out.

use offload_common::job::{Nonce, State};
use offload_common::store::{Claim, Claimed, Error, Finished, Store};
use offload_common::testing::factory;
use sqlx::PgConnection;

use crate::harness::{Harness, WAITING, claim_of, left_running, queue, run, state_of, success, until};

/// A call whose statement arrives and is carried out, and whose reply never comes back.
macro_rules! lose_the_reply {
    ($harness:ident, $beside:ident, $proxy:ident, $call:expr, $done:expr) => {{
        let mut holder: PgConnection = $harness.connect().await;
        run(&mut holder, "BEGIN; SELECT FROM offload.jobs FOR UPDATE").await;
        let call = tokio::spawn($call);
        until(&mut $beside, WAITING, 1).await;
        $proxy.stall();
        run(&mut holder, "ROLLBACK").await;
        until(&mut $beside, $done, 1).await;
        $proxy.disconnect();
        $proxy.restore();
        let lost = call.await.expect("joined");
        assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_recognised() {
    let (harness, first) = Harness::start().await;
    let (store, proxy) = harness.behind_a_proxy("behind").await;
    let store = std::sync::Arc::new(store);
    store.ready().await.expect("it is there");
    let mut beside = harness.connect().await;
    let session = first.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    let (worker, claim) = (session.worker(), claim_of(queue(&first, factory::job()).await));
    let caller = store.clone();
    lose_the_reply!(
        harness,
        beside,
        proxy,
        async move { caller.claim(worker, &[claim]).await },
        "SELECT count(*) FROM offload.jobs WHERE state = 'running'"
    );
    let granted = store.claim(worker, &[claim]).await.expect("answered")[0].lease().expect("it is mine");
    assert_eq!((granted.epoch, granted.nonce), (claim.epoch + 1, claim.nonce));
    let other = Claim { nonce: Nonce::new(), ..claim };
    assert_eq!(store.claim(worker, &[other]).await.expect("answered"), [Claimed::MovedOn], "another run's nonce");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_is_recognised() {
    let (harness, first) = Harness::start().await;
    let (store, proxy) = harness.behind_a_proxy("behind").await;
    let store = std::sync::Arc::new(store);
    store.ready().await.expect("it is there");
    let mut beside = harness.connect().await;
    let lease = left_running(&first).await;
    let caller = store.clone();
    lose_the_reply!(
        harness,
        beside,
        proxy,
        async move { caller.finish(&[success(lease)]).await },
        "SELECT count(*) FROM offload.jobs WHERE state = 'succeeded'"
    );
    assert_eq!(store.finish(&[success(lease)]).await.expect("answered"), [Finished::Applied(None)]);
    assert_eq!(state_of(&first, lease.job).await, State::Succeeded);
}

/// A transaction whose connection breaks before the commit is gone, and the lease is still good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_transaction_leaves_the_lease_good() {
    let (harness, first) = Harness::start().await;
    let (store, proxy) = harness.behind_a_proxy("behind").await;
    let mut beside = harness.connect().await;
    run(&mut beside, "CREATE TABLE notes (text text)").await;
    let lease = left_running(&first).await;
    let mut transaction = store.begin(&lease).await.expect("begun");
    transaction.execute("INSERT INTO notes VALUES ('x')", &[]).await.expect("written");
    proxy.disconnect();
    let broken = transaction.finish(&success(lease)).await;
    assert!(matches!(broken, Err(Error::Unavailable(_))), "{broken:?}");
    assert_eq!(first.finish(&[success(lease)]).await.expect("answered"), [Finished::Applied(None)]);
    until(&mut beside, "SELECT count(*) FROM notes", 0).await;
}

/// After a statement that failed there is only the way back, even for a handler that does not mind the error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_statement_dooms_the_transaction() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    run(&mut beside, "CREATE TABLE notes (text text, length int)").await;
    for (bad, arguments) in [
        ("INSERT INTO notes VALUES ('x', 'many')", vec![]),
        ("INSERT INTO notes VALUES ($1, $2)", vec![serde_json::json!("x"), serde_json::json!("many")]),
        ("INSERT INTO nowhere VALUES ('x')", vec![]),
        ("SELECT 1; SELECT 2", vec![]),
        ("COMMIT", vec![]),
        ("/* sly */ rollback", vec![]),
    ] {
        let lease = left_running(&store).await;
        let mut transaction = store.begin(&lease).await.expect("begun");
        transaction.execute("INSERT INTO notes VALUES ('y', 1)", &[]).await.expect("written");
        let refused = transaction.execute(bad, &arguments).await;
        assert!(matches!(refused, Err(Error::Rejected(_))), "{bad}: {refused:?}");
        if bad.contains("notes") {
            let finished = transaction.finish(&success(lease)).await;
            assert!(matches!(finished, Err(Error::Rejected(_))), "{bad}: {finished:?}");
        }
        until(&mut beside, "SELECT count(*) FROM notes", 0).await;
    }
}
