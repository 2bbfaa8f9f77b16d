//! RabbitMQ goes away, comes back, or loses everything it held.

use offload_common::testing::eventually;
use serde_json::json;

use crate::support::{Backend, StackBuilder};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_accepted_and_run_without_it() {
    let stack = StackBuilder::new(Backend::Services).workers(2).proxies().start().await;
    let client = stack.client();
    let run = async |count: usize| {
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(client.submit("echo", json!({"value": n})).await);
        }
        for id in ids {
            client.succeeded(&id).await;
        }
    };
    run(5).await;
    stack.services().broker_proxy().cut();
    run(20).await;
    client.get("/readyz").await.expect(200);
    stack.services().broker_proxy().restore();
    eventually("both workers and the API are connected again", async || {
        (stack.services().broker_proxy().connections() >= 3).then_some(())
    })
    .await;
    run(20).await;
}

/// A cancel is told through the broker; without it, the heartbeat tells it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_cancelled_without_it() {
    let stack = StackBuilder::new(Backend::Services).proxies().start().await;
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 600})).await;
    client.until_state(&id, "running").await;
    stack.services().broker_proxy().cut();
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
    client.until_state(&id, "cancelled").await;
}

/// The queues are deleted while jobs pour in: they are declared again, and what was in them is found in the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_queues_are_deleted_under_load() {
    let stack = StackBuilder::new(Backend::Services).workers(2).with("OFFLOAD_WORKER__SLOTS", "4").start().await;
    let client = stack.client();
    let mut ids = Vec::new();
    for n in 0..150 {
        ids.push(client.submit("echo", json!({"value": n, "sleep_seconds": 0.02})).await);
        if n % 50 == 25 {
            stack.services().delete_queues().await;
        }
    }
    for id in &ids {
        assert_eq!(client.succeeded(id).await["attempt"], 1);
    }
    let id = client.submit("echo", json!({"value": "as before"})).await;
    client.succeeded(&id).await;
}
