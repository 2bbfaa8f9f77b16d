//! Workers are drained and replaced one by one, again and again, under load: nobody pays for it, and nothing waits for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offload_common::testing::eventually;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::client::Client;
use crate::distribution::{count, report};
use crate::support::{Fleet, FleetBuilder, Site, pass};

/// Between two submissions: some 50 a second.
const PAUSE: Duration = Duration::from_millis(20);
/// Every so many jobs takes so long; the others take no time.
const LONG: (u32, f64) = (20, 2.0);
/// How long the load lasts before the first worker goes, for comparison.
const CALM: Duration = Duration::from_secs(20);

/// From acceptance to the start, in seconds; of what was accepted before a time, or since.
const WAITED: &str = "SELECT extract(epoch FROM started_at - created_at)::float8 FROM offload.jobs
    WHERE (created_at < to_timestamp($1)) = $2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_costs_no_attempt_and_little_time() {
    let rounds = count("OFFLOAD_ENDURANCE_DEPLOYS", 10);
    let fleet = FleetBuilder::new(1, 3).start(Site::take().await).await;
    let client = Client::of(&fleet);
    eventually("all workers are live", async || (client.workers().await == 3).then_some(())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(submit(client, stop.clone()));
    pass(CALM).await;
    let mut database = PgConnection::connect(&fleet.database_url).await.expect("it is up");
    let first: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(&mut database)
        .await
        .expect("the time");
    for _ in 0..rounds {
        roll(&fleet).await;
    }
    stop.store(true, Ordering::Relaxed);
    load.await.expect("it does not panic");
    let open = "SELECT count(*) FROM offload.jobs WHERE state <> 'succeeded'";
    eventually("every job succeeds", async || {
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut database).await.expect("read");
        (open == 0).then_some(())
    })
    .await;
    let paid = "SELECT count(*) FROM offload.jobs WHERE attempt <> 1 OR losses <> 0 OR history IS NOT NULL";
    let paid: i64 = sqlx::query_scalar(paid).fetch_one(&mut database).await.expect("read");
    println!(
        "{rounds} times three workers drained and replaced one by one, 50 jobs a second, from acceptance to the start:"
    );
    for (what, before) in [("  before", true), ("  during", false)] {
        let waited = sqlx::query_scalar(WAITED).bind(first).bind(before).fetch_all(&mut database).await.expect("read");
        report(
            what,
            &waited.into_iter().map(|seconds: f64| Duration::from_secs_f64(seconds.max(0.0))).collect::<Vec<_>>(),
        );
    }
    assert_eq!(paid, 0, "jobs that paid for it");
    fleet.end().await;
}

async fn submit(client: Client, stop: Arc<AtomicBool>) {
    for n in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let seconds = if n % LONG.0 == 0 { LONG.1 } else { 0.0 };
        client.submit("fault.ledger", json!({"seconds": seconds})).await;
        pass(PAUSE).await;
    }
}

async fn roll(fleet: &Fleet) {
    for worker in fleet.workers() {
        let mut life = worker.life().await;
        life.signal(Signal::TERM);
        let status = life.ended().await;
        assert!(status.success(), "a drain ended with {status}");
        life.start(&[]).await;
    }
}
