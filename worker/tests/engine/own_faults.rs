//! Faults of the worker itself: what a panic inside of it costs.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use offload_common::job::State;
use offload_common::kind::Effects;
use offload_common::testing::eventually;
use offload_worker::Exit;
use serde_json::json;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, job, kind, numbered};

/// A bench on a store with faults, and these.
async fn bench() -> (Bench, Arc<Faults>) {
    let mut bench = Bench::new().await;
    let faults = Arc::new(Faults::default());
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: faults.clone() });
    (bench, faults)
}

fn once(count: &AtomicUsize) {
    count.store(1, std::sync::atomic::Ordering::SeqCst);
}

#[tokio::test]
async fn a_worker_without_a_heartbeat_hands_back_what_it_runs_and_ends() {
    let (mut bench, faults) = bench().await;
    bench.config.lazy_claim_seconds = 20.0;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    assert_eq!(gate.started().await, (id, 1));
    once(&faults.panics.beat);
    assert_eq!(worker.ended().await, Exit::Failed("the heartbeat"));
    assert_eq!(gate.dropped().await, id);
    let back = bench.read(id).await;
    assert_eq!((back.state, back.attempt, back.losses), (State::Queued, 0, 0));
}

#[tokio::test]
async fn a_worker_that_starts_nothing_any_more_lets_what_runs_end_and_ends() {
    let (bench, faults) = bench().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let first = bench.submit(job()).await;
    assert_eq!(gate.started().await, (first, 1));
    once(&faults.panics.fetch);
    let second = bench.submit(job()).await;
    let probes = worker.probes.clone();
    eventually("a drain", async || (!probes.readiness().ready).then_some(())).await;
    gate.let_through(1);
    assert_eq!(worker.ended().await, Exit::Failed("the starter"));
    assert_eq!(bench.read(first).await.state, State::Succeeded);
    assert_eq!(bench.read(second).await.state, State::Queued, "its message was given back");
    let _next = bench.worker(&[gate.kind(Effects::Unsafe)]);
    gate.let_through(1);
    bench.reaches(second, State::Succeeded).await;
}

#[tokio::test]
async fn a_worker_whose_broker_is_closed_ends() {
    let (bench, _) = bench().await;
    let worker = bench.worker(&[]);
    worker.ready().await;
    // What waits for the first delivery must be there to see the end of it.
    let id = bench.submit(job()).await;
    bench.reaches(id, State::Scheduled).await;
    bench.broker.close(std::time::Duration::from_secs(5)).await;
    assert_eq!(worker.ended().await, Exit::Failed("the consumer"));
}

#[tokio::test]
async fn a_run_whose_end_panics_leaves_nothing_behind_and_its_job_runs_again() {
    let (mut bench, faults) = bench().await;
    bench.config.slots = 1;
    once(&faults.panics.commit);
    let writer = kind(Effects::Unsafe, |job, n| {
        Box::pin(async move {
            job.transaction().await?;
            Ok(json!([n, job.attempt]))
        })
    });
    let worker = bench.worker(&[writer]);
    let id = bench.submit(numbered(7)).await;
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.result.expect("a result").get(), done.attempt, done.losses), ("[7,1]", 1, 0));
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn upkeep_that_panics_goes_on() {
    let (bench, faults) = bench().await;
    once(&faults.panics.promote);
    let failing = kind(Effects::Repeatable, |job, n| {
        Box::pin(async move {
            if job.attempt == 1 { Err(offload_worker::kind::JobError::retry("again", "")) } else { Ok(n) }
        })
    });
    let _worker = bench.worker(&[failing]);
    let id = bench.submit(numbered(1)).await;
    assert_eq!(bench.reaches(id, State::Succeeded).await.attempt, 2, "it was promoted");
}

#[tokio::test]
async fn a_report_that_panics_is_left_out_and_holds_up_no_end() {
    let (bench, faults) = bench().await;
    faults.panics.report.store(2, std::sync::atomic::Ordering::SeqCst);
    let talker = kind(Effects::Repeatable, |job, n| {
        Box::pin(async move {
            job.log("info", "a word");
            Ok(n)
        })
    });
    let worker = bench.worker(&[talker]);
    for n in 0..3 {
        let id = bench.submit(numbered(n)).await;
        bench.reaches(id, State::Succeeded).await;
    }
    assert_eq!(worker.drain().await, Exit::Drained);
}
