//! The end of a worker.

use std::sync::Arc;

use offload_common::job::State;
use offload_common::kind::Effects;
use offload_worker::Exit;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, job};

#[tokio::test]
async fn running_jobs_get_their_time() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    let probes = worker.probes.clone();
    worker.stop.drain.cancel();
    let end = tokio::spawn(worker.drain());
    offload_common::testing::eventually("unready", async || (!probes.readiness().ready).then_some(())).await;
    assert_eq!(probes.readiness().reason, Some("it is draining"));
    gate.let_through(1);
    assert_eq!(end.await.expect("no panic"), Exit::Drained);
    assert_eq!(bench.read(id).await.state, State::Succeeded);
    assert!(bench.store.workers().await.expect("read").is_empty(), "it has left");
}

#[tokio::test]
async fn what_does_not_end_in_time_is_handed_back_without_an_attempt() {
    let mut bench = Bench::new().await;
    bench.config.drain_seconds = 0;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    assert_eq!(gate.started().await, (id, 1));
    assert_eq!(worker.drain().await, Exit::HandedBack(1));
    assert_eq!(gate.dropped().await, id);
    let back = bench.read(id).await;
    assert_eq!((back.state, back.attempt, back.losses, back.history.len()), (State::Queued, 0, 0, 0));
    let _next = bench.worker(&[gate.kind(Effects::Unsafe)]);
    assert_eq!(gate.started().await, (id, 1));
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
}

#[tokio::test]
async fn a_lazy_run_is_handed_back_by_its_message_alone() {
    let mut bench = Bench::new().await;
    (bench.config.drain_seconds, bench.config.lazy_claim_seconds) = (0, 20.0);
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let dispatch = bench.accept(job()).await.expect("queued");
    let (id, epoch) = (dispatch.pointer.id, dispatch.pointer.epoch);
    bench.publisher.send(vec![dispatch]);
    gate.started().await;
    assert_eq!(worker.drain().await, Exit::HandedBack(1));
    assert_eq!(gate.dropped().await, id);
    let back = bench.read(id).await;
    assert_eq!((back.state, back.epoch), (State::Queued, epoch), "nothing was written");
    let _next = bench.worker(&[gate.kind(Effects::Repeatable)]);
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
}

#[tokio::test]
async fn what_has_not_started_goes_to_others() {
    let mut bench = Bench::new().await;
    (bench.config.slots, bench.config.drain_seconds) = (1, 0);
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let ids = [bench.submit(job()).await, bench.submit(job()).await, bench.submit(job()).await];
    gate.started().await;
    worker.drain().await;
    gate.dropped().await;
    let _next = bench.worker(&[gate.kind(Effects::Unsafe)]);
    gate.let_through(3);
    for id in ids {
        bench.reaches(id, State::Succeeded).await;
    }
}

#[tokio::test]
async fn a_hard_stop_waits_for_nobody() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    worker.stop.drain.cancel();
    worker.stop.halt.cancel();
    assert_eq!(worker.drain().await, Exit::Halted);
    assert_eq!(bench.read(id).await.state, State::Queued, "handed back all the same");
}

#[tokio::test]
async fn a_worker_that_never_joined_can_end() {
    let bench = Bench::new().await;
    bench.store.close().await;
    let worker = bench.worker(&[]);
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn what_was_being_claimed_when_all_were_told_to_end_is_handed_back_too() {
    let mut bench = Bench::new().await;
    bench.config.drain_seconds = 0;
    let faults = Arc::new(Faults::default());
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: faults.clone() });
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let first = bench.submit(job()).await;
    assert_eq!(gate.started().await, (first, 1));
    faults.claims_held.send_replace(true);
    let second = bench.submit(job()).await;
    bench.reaches(second, State::Running).await;
    let end = tokio::spawn(worker.drain());
    assert_eq!(gate.dropped().await, first);
    faults.claims_held.send_replace(false);
    assert!(matches!(end.await.expect("no panic"), Exit::HandedBack(_)));
    for id in [first, second] {
        let back = bench.read(id).await;
        assert_eq!((back.state, back.attempt, back.losses), (State::Queued, 0, 0));
    }
    assert!(gate.is_quiet().await, "the second has not started");
}
