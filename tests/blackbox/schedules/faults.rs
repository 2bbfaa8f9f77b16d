//! Fires while workers die, and after nothing was there to make them.

use chrono::TimeDelta;
use offload_common::clock;
use offload_common::testing::eventually;
use serde_json::{Value, json};

use super::{at, finished, fires, jobs, make, pause};
use crate::support::{Backend, Client, StackBuilder};

const FAULT: &str = "OFFLOAD_FAILPOINT";

/// Two workers that die as they fire, one that goes on: every second of the schedule has one job, and no second has two.
async fn every_fire_happens_once(fault: &str) {
    let mut stack = StackBuilder::new(Backend::Services).workers(2).with(FAULT, fault).start().await;
    stack.without(FAULT);
    stack.start_worker();
    let client = stack.client().clone();
    client.workers(3).await;
    let every_second = json!({"every_seconds": 1, "overlap": "allow", "missed": "all", "max_missed": 1000});
    let path = make(&client, "every second", every_second).await;
    for worker in &mut stack.workers[..2] {
        worker.exit().await;
    }
    let so_far = fires(&client, &path).await.len();
    eventually("it goes on firing", async || (fires(&client, &path).await.len() >= so_far + 3).then_some(())).await;
    pause(&client, &path).await;
    let mut times: Vec<_> = jobs(&client, &path).await.iter().map(|job| at(&job["fire_at"])).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(1)), "{times:#?}");
    for job in jobs(&client, &path).await {
        client.succeeded(job["id"].as_str().expect("an id")).await;
    }
    let (code, said) = stack.verify(&[]).await;
    assert_eq!(code, Some(0), "{said:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_before_its_fires_are_committed_makes_none() {
    every_fire_happens_once("fire.before:kill:2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_right_after_its_fires_leaves_their_jobs() {
    every_fire_happens_once("fire.after:kill:2").await;
}

/// The same with batches: all of the jobs of each, or none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_before_its_fires_are_committed_makes_no_batch() {
    let mut stack = StackBuilder::new(Backend::Services).workers(2).with(FAULT, "fire.before:kill:2").start().await;
    stack.without(FAULT);
    stack.start_worker();
    let client = stack.client().clone();
    client.workers(3).await;
    let batch = json!({"defaults": {"kind": "echo"}, "jobs": [{"payload": {"value": 1}}, {"payload": {"value": 2}}]});
    let every_second = json!({"every_seconds": 1, "overlap": "allow", "missed": "all", "job": null, "batch": batch});
    let path = make(&client, "every second", every_second).await;
    for worker in &mut stack.workers[..2] {
        worker.exit().await;
    }
    let so_far = fires(&client, &path).await.len();
    eventually("it goes on firing", async || (fires(&client, &path).await.len() >= so_far + 3).then_some(())).await;
    pause(&client, &path).await;
    let fires = fires(&client, &path).await;
    let times: Vec<_> = fires.iter().map(|fire| at(&fire["fire_at"])).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(1)), "{times:#?}");
    for fire in &fires {
        let batch = finished(&client, fire).await;
        assert_eq!((&batch["total"], &batch["counts"]["succeeded"]), (&json!(2), &json!(2)), "{batch:#}");
    }
    let id = path.rsplit('/').next().expect("an id");
    let jobs = client.get(&format!("/v1/jobs?schedule_id={id}&limit=1000")).await.expect(200).json();
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(2 * fires.len()), "none is there twice");
    let (code, said) = stack.verify(&[]).await;
    assert_eq!(code, Some(0), "{said:#}");
}

async fn one_of_each_policy(client: &Client) -> [String; 3] {
    let of = |missed: &str| json!({"every_seconds": 1, "overlap": "allow", "missed": missed});
    [make(client, "skip", of("skip")).await, make(client, "one", of("one")).await, make(client, "all", of("all")).await]
}

/// Waits until each has missed several fires.
async fn are_missed(next: &[Value]) {
    let enough = next.iter().map(at).max().expect("some") + TimeDelta::seconds(4);
    eventually("fires are missed", async || (clock::now() > enough).then_some(())).await;
}

async fn are_made_up_for([skip, one, all]: &[String; 3], client: &Client) {
    let back = clock::now();
    for path in [skip, one, all] {
        eventually(&format!("{path} fires again"), async || {
            let fires = fires(client, path).await;
            let again = fires.iter().any(|fire| fire["outcome"] == "fired" && at(&fire["fire_at"]) > back);
            again.then_some(())
        })
        .await;
        pause(client, path).await;
    }
    let left_out = |fires: &[Value]| -> u64 {
        let missed = fires.iter().filter(|fire| fire["outcome"] == "skipped" && fire["reason"] == "missed");
        missed.map(|fire| fire["count"].as_u64().expect("a count")).sum()
    };
    let caught_up = |fires: &[Value]| fires.iter().filter(|fire| fire["outcome"] == "caught_up").count();
    let fires_of = [fires(client, skip).await, fires(client, one).await, fires(client, all).await];
    assert!(left_out(&fires_of[0]) >= 3 && caught_up(&fires_of[0]) == 0, "{:#?}", fires_of[0]);
    assert!(left_out(&fires_of[1]) >= 2, "{:#?}", fires_of[1]);
    assert!(left_out(&fires_of[2]) == 0 && caught_up(&fires_of[2]) >= 3, "{:#?}", fires_of[2]);
    let times: Vec<_> = fires_of[2].iter().map(|fire| at(&fire["fire_at"])).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::seconds(1)), "{times:#?}");
    for path in [skip, one, all] {
        jobs(client, path).await;
    }
}

async fn next_of(paths: &[String; 3], client: &Client) -> Vec<Value> {
    let mut next = Vec::new();
    for path in paths {
        next.push(client.get(path).await.expect(200).json()["next_at"].clone());
    }
    next
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_without_a_worker_goes_by_its_policy() {
    let mut stack = StackBuilder::new(Backend::Services).workers(0).start().await;
    let client = stack.client().clone();
    let paths = one_of_each_policy(&client).await;
    are_missed(&next_of(&paths, &client).await).await;
    stack.start_worker();
    are_made_up_for(&paths, &client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_missed_while_the_embedded_backend_was_down_goes_by_its_policy() {
    let mut stack = StackBuilder::new(Backend::Embedded).start().await;
    let client = stack.client().clone();
    let paths = one_of_each_policy(&client).await;
    let next = next_of(&paths, &client).await;
    stack.api.take().expect("started").kill().await;
    are_missed(&next).await;
    stack.start_api("offload dev, again", &["dev", "--listen", "127.0.0.1:0"]).await;
    let client = stack.client().clone();
    are_made_up_for(&paths, &client).await;
}
