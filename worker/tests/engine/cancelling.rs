//! Cancelling, before and while a job runs.

use offload_common::broker::Signal;
use offload_common::job::State;
use offload_common::kind::Effects;
use offload_common::store::Cancelled;
use offload_common::testing::factory::TENANT;

use crate::engine::support::{Bench, Gate, job};

#[tokio::test]
async fn a_running_job_is_cancelled_at_once_when_its_worker_is_told() {
    let mut bench = Bench::new().await;
    // The heartbeat would notice as well, but not within this test.
    bench.config.heartbeat_seconds = 5.0;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    assert_eq!(bench.store.cancel(TENANT, id).await.expect("cancelled"), Some(Cancelled::Requested));
    bench.broker.signal(Signal::Cancel(vec![id])).await;
    assert_eq!(gate.dropped().await, id);
    let cancelled = bench.reaches(id, State::Cancelled).await;
    assert_eq!((cancelled.attempt, cancelled.result.is_none()), (1, true));
}

#[tokio::test]
async fn the_heartbeat_finds_a_wish_to_cancel_that_nobody_told_of() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    bench.store.cancel(TENANT, id).await.expect("cancelled");
    assert_eq!(gate.dropped().await, id);
    bench.reaches(id, State::Cancelled).await;
}

#[tokio::test]
async fn a_lazy_run_whose_job_is_cancelled_is_stopped_by_its_claim() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    // Whether it had been claimed by now is a matter of time; both ways end the same.
    bench.store.cancel(TENANT, id).await.expect("cancelled");
    assert_eq!(gate.dropped().await, id);
    bench.reaches(id, State::Cancelled).await;
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_it_starts_does_not() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let (first, second) = (bench.submit(job()).await, bench.submit(job()).await);
    assert_eq!(bench.store.cancel(TENANT, first).await.expect("cancelled"), Some(Cancelled::Now));
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    assert_eq!(gate.started().await.0, second);
    gate.let_through(1);
    bench.reaches(second, State::Succeeded).await;
    worker.drain().await;
    assert!(gate.is_quiet().await, "the first never started");
    assert_eq!(bench.read(first).await.state, State::Cancelled);
}
