//! Messages that are not Offload's, on its queues; and a job that kills whoever runs it.

use offload_common::testing::eventually;
use serde_json::{Value, json};

use crate::support::{Backend, StackBuilder};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_messages_are_parked_and_counted_and_hold_up_nothing() {
    let mut stack =
        StackBuilder::new(Backend::Services).workers(0).with("OFFLOAD_WORKER__LISTEN", "127.0.0.1:0").start().await;
    let probes = stack.start_worker().address().await;
    let id = stack.client().submit("echo", json!({"value": "before"})).await;
    stack.client().succeeded(&id).await;
    let foreign: [&[u8]; 4] = [b"", b"hello", br#"{"v": 1, "jobs": "none"}"#, br#"{"v": 99}"#];
    for body in foreign {
        stack.services().put("default.normal", body).await;
    }
    let counted = async || {
        let readiness = reqwest::get(format!("{probes}/readyz")).await.expect("answered");
        readiness.json::<Value>().await.expect("JSON")["parked"].as_u64().expect("a count")
    };
    eventually("all are counted", async || (counted().await == 4).then_some(())).await;
    for n in 0..20 {
        let id = stack.client().submit("echo", json!({"value": n})).await;
        stack.client().succeeded(&id).await;
    }
    assert_eq!(counted().await, 4, "none came again");
    let services = stack.services();
    eventually("each is parked once", async || (services.ready("parked").await == Some(4)).then_some(())).await;
    eventually("nothing is left", async || (services.ready("default.normal").await == Some(0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_kills_its_workers_ends_and_those_beside_it_pay_nothing() {
    let mut stack = StackBuilder::new(Backend::Services).short_lease().start().await;
    let mut beside = Vec::new();
    for n in 0..3 {
        let payload = json!({"value": n, "sleep_seconds": 2});
        beside.push(stack.client().submit("echo", payload).await);
    }
    for id in &beside {
        stack.client().until_state(id, "running").await;
    }
    let killer = stack.client().submit("test.killer", json!({})).await;
    for _ in 0..3 {
        stack.workers.last_mut().expect("started").exit().await;
        stack.start_worker();
    }
    let job = stack.client().failed(&killer, "worker_lost").await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(1)), "{job:#}");
    for id in &beside {
        let job = stack.client().succeeded(id).await;
        assert_eq!((&job["attempt"], &job["history"]), (&json!(1), &json!([])), "{job:#}");
    }
    assert!(stack.workers.last_mut().expect("started").is_running());
}
