//! A job that runs for longer than RabbitMQ lets a delivery go unacknowledged.

use std::time::Duration;

use offload_common::testing::within;
use serde_json::json;

use crate::client::Client;
use crate::starts::Starts;
use crate::support::{FleetBuilder, Postgres, RabbitMq, Site};

/// RabbitMQ looks once a minute.
const TIMEOUT: &str = "consumer_timeout = 60000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_normally_and_once() {
    let site = Site::of(Postgres::new().await, RabbitMq::with(&[TIMEOUT]).await);
    let fleet = FleetBuilder::new(1, 2).start(site).await;
    let client = Client::of(&fleet);
    let id = client.submit("fault.ledger", json!({"seconds": 150})).await;
    let done = within(Duration::from_secs(240), async || {
        let job = client.job(&id).await;
        (job["state"] == "succeeded").then_some(job)
    });
    let done = done.await.expect("it succeeds within 240 s");
    assert_eq!((&done["attempt"], &done["history"]), (&json!(1), &json!([])), "{done:#}");
    assert_eq!(fleet.starts().lines().filter(|line| line.starts_with("start")).count(), 1);
    // No channel was closed over it: whoever had it is a consumer still.
    assert!(Starts::of(&fleet).elsewhere(0).contains(id.as_str()));
    for worker in fleet.workers() {
        let log = worker.life().await.logs().concat().join("\n");
        assert!(!log.contains("lost the broker"), "{log}");
    }
    fleet.end().await;
}
