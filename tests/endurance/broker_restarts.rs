//! RabbitMQ restarts a hundred times in a row: consumption comes back by itself each time, and nothing is left behind.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use offload_common::clock;
use offload_common::testing::{eventually, within};
use serde_json::json;

use crate::client::Client;
use crate::distribution::{count, report};
use crate::footprint::Footprint;
use crate::support::{Fleet, FleetBuilder, RabbitMq, Site};

const WORKERS: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumption_resumes_after_each_of_a_hundred_restarts() {
    let restarts = count("OFFLOAD_ENDURANCE_RESTARTS", 100);
    let fleet = FleetBuilder::new(1, WORKERS).start(Site::take().await).await;
    let client = Client::of(&fleet);
    consumed(&fleet).await;
    let mut resumed = Vec::new();
    let mut before = None;
    for round in 0..restarts {
        let mut rabbitmq = fleet.site.rabbitmq().write().await;
        rabbitmq.stop().await;
        let during = client.submit("echo", json!({"value": round})).await;
        rabbitmq.start().await;
        drop(rabbitmq);
        let back = clock::instant();
        consumed(&fleet).await;
        resumed.push(back.elapsed());
        let after = client.submit("echo", json!({"value": round})).await;
        for job in [during, after] {
            eventually("the job succeeds", async || (client.job(&job).await["state"] == "succeeded").then_some(()))
                .await;
        }
        // By then caches are filled and pools have grown.
        if round == restarts / 10 {
            before = Some(taken(&fleet).await);
        }
    }
    println!(
        "{restarts} restarts of RabbitMQ, from when it takes connections to when every lane is consumed by all workers:"
    );
    report("  resumed", &resumed);
    let (before, after) = (before.expect("there were restarts"), taken(&fleet).await);
    println!("  connections and channels {:?} -> {:?}", before.1, after.1);
    assert_eq!(before.1, after.1, "connections and channels are as they were");
    for (before, after) in before.0.iter().zip(&after.0) {
        println!("  {before:?} -> {after:?}");
        assert!(after.threads <= before.threads + 2, "threads pile up");
        assert!(after.files <= before.files + 4, "sockets pile up");
        assert!(after.resident <= before.resident + before.resident / 4, "memory piles up");
    }
    fleet.end().await;
}

/// What every process takes, and how many connections and channels RabbitMQ has.
async fn taken(fleet: &Fleet) -> (Vec<Footprint>, (u64, u64)) {
    let mut footprints = Vec::new();
    for node in fleet.nodes() {
        footprints.push(Footprint::of(node.life().await.id()));
    }
    let rabbitmq: &RabbitMq = &*fleet.site.rabbitmq().read().await;
    (footprints, rabbitmq.connections_and_channels().await)
}

/// Waits until every lane of the default queue has a consumer of each worker.
async fn consumed(fleet: &Fleet) {
    let url = fleet.site.rabbitmq().read().await.url();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("it is up");
    let all = within(Duration::from_secs(60), async || {
        // A queue that is not there yet closes the channel.
        let channel = connection.create_channel().await.ok()?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        for priority in ["high", "normal", "low"] {
            let name = format!("{}.default.{priority}", fleet.name);
            let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await.ok()?;
            if queue.consumer_count() as usize != WORKERS {
                return None;
            }
        }
        Some(())
    });
    all.await.expect("every lane is consumed again within 60 s");
    // A channel may be half-way through its own end.
    let _ = connection.close(200, "done".into()).await;
}
