//! RabbitMQ loses everything, twice, while a million jobs wait.

use std::time::Duration;

use offload_common::clock;
use offload_common::config::DatabaseConfig;
use offload_common::job::NewJob;
use offload_common::store::Store as _;
use offload_common::store::postgres::PostgresStore;
use offload_common::testing::factory;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::client::Client;
use crate::distribution::count;
use crate::support::{Fleet, FleetBuilder, Site, pass};

/// What the broker holds of a lane (`jobs.window`), and what is written at a time.
const WINDOW: usize = 10_000;
const BATCH: usize = 500;
/// Without any job ending for this long, something is stuck.
const STANDSTILL: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_of_a_million_ends_once_and_no_flood_follows() {
    let jobs = count("OFFLOAD_ENDURANCE_BACKLOG", 1_000_000);
    let fleet = FleetBuilder::new(1, 2).start(Site::take().await).await;
    for worker in fleet.workers() {
        let mut life = worker.life().await;
        life.signal(Signal::TERM);
        life.ended().await;
    }
    fill(&fleet, jobs).await;
    let mut published = wipe(&fleet).await;
    let began = clock::instant();
    for worker in fleet.workers() {
        worker.life().await.start(&[]).await;
    }
    until_ended(&fleet, jobs as i64 * 3 / 10).await;
    published += wipe(&fleet).await;
    until_ended(&fleet, jobs as i64).await;
    let took = began.elapsed().as_secs_f64();
    published += published_since_its_start(&fleet).await;

    let share = published as f64 / jobs as f64;
    println!("{jobs} queued jobs, RabbitMQ wiped before and at a third of them:");
    println!(
        "  all ended after {took:.0} s ({:.0} a second); {share:.3} messages published per job",
        jobs as f64 / took
    );
    let mut database = connect(&fleet).await;
    let once = "SELECT count(*) FROM offload.jobs WHERE state = 'succeeded' AND attempt = 1 AND losses = 0";
    let once: i64 = sqlx::query_scalar(once).fetch_one(&mut database).await.expect("read");
    assert_eq!(once, jobs as i64, "every job succeeded at its first attempt");
    assert!(share <= 1.2, "a flood of messages: {published} for {jobs} jobs");
    fleet.end().await;
}

async fn connect(fleet: &Fleet) -> PgConnection {
    PgConnection::connect(&fleet.database_url).await.expect("it is up")
}

/// Puts a backlog in: what intake admits comes by HTTP and is published, the rest is written as intake writes it then.
async fn fill(fleet: &Fleet, jobs: usize) {
    let client = Client::of(fleet);
    let mut submitting = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = client.clone();
        submitting.spawn(async move {
            for _ in 0..WINDOW.min(jobs) / 16 {
                client.submit("echo", json!({})).await;
            }
        });
    }
    submitting.join_all().await;
    let url = fleet.database_url.clone();
    let config =
        DatabaseConfig { url: None, data: "unused".into(), max_connections: 4, statement_timeout_seconds: 30.0 };
    let store = PostgresStore::open(&config, &url, "endurance").expect("a URL");
    let mut left = jobs - WINDOW.min(jobs) / 16 * 16;
    while left > 0 {
        let job = || NewJob { kind: "echo".to_owned(), payload: factory::raw("{}"), admit: false, ..factory::job() };
        let batch: Vec<NewJob> = (0..left.min(BATCH)).map(|_| job()).collect();
        left -= batch.len();
        store.accept(&batch).await.expect("accepted");
    }
}

/// Throws away everything that RabbitMQ holds; answers how many messages had been published to it.
async fn wipe(fleet: &Fleet) -> u64 {
    let published = published_since_its_start(fleet).await;
    let mut rabbitmq = fleet.site.rabbitmq().write().await;
    rabbitmq.wipe();
    rabbitmq.start().await;
    published
}

/// Messages that were published with confirms, as pointers are, since RabbitMQ started.
async fn published_since_its_start(fleet: &Fleet) -> u64 {
    let total = "io:format(\"~b~n\", [maps:get(messages_received_confirm_total, \
                 maps:get([{protocol, amqp091}], rabbit_global_counters:overview()))]).";
    let answer = fleet.site.rabbitmq().read().await.eval(total).await;
    answer.lines().next().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no number: {answer}"))
}

/// Waits until so many jobs have succeeded.
async fn until_ended(fleet: &Fleet, wanted: i64) {
    let mut database = connect(fleet).await;
    let (mut ended, mut moved) = (0, clock::instant());
    while ended < wanted {
        let count = "SELECT count(*) FROM offload.jobs WHERE state = 'succeeded'";
        let now: i64 = sqlx::query_scalar(count).fetch_one(&mut database).await.expect("read");
        if now > ended {
            (ended, moved) = (now, clock::instant());
        }
        assert!(moved.elapsed() < STANDSTILL, "{ended} of {wanted} have ended, and no other for {STANDSTILL:?}");
        pass(Duration::from_secs(1)).await;
    }
}
