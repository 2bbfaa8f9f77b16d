//! When a run is claimed, and that it runs once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use offload_common::job::{NewJob, State};
use offload_common::kind::Effects;
use offload_common::store::{Claim, Claimed};
use offload_common::testing::{eventually, factory};
use offload_worker::Exit;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, job, kind, numbered};

/// A bench whose store counts, and the counts.
async fn counting() -> (Bench, Arc<Faults>) {
    let mut bench = Bench::new().await;
    let faults = Arc::new(Faults::default());
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: faults.clone() });
    (bench, faults)
}

#[tokio::test]
async fn a_short_repeatable_job_is_never_claimed() {
    let (mut bench, faults) = counting().await;
    bench.config.lazy_claim_seconds = 20.0;
    let worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    for n in 0..20 {
        let id = bench.submit(numbered(n)).await;
        bench.reaches(id, State::Succeeded).await;
    }
    worker.drain().await;
    let (claims, finishes) = (faults.claims.load(Ordering::SeqCst), faults.finishes.load(Ordering::SeqCst));
    assert_eq!((claims, finishes), (0, 20));
}

#[tokio::test]
async fn a_long_one_is_claimed_while_it_runs() {
    let (bench, faults) = counting().await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    let running = bench.reaches(id, State::Running).await;
    assert_eq!((running.attempt, faults.claims.load(Ordering::SeqCst)), (1, 1));
    gate.let_through(1);
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.attempt, done.epoch), (1, running.epoch + 1));
}

#[tokio::test]
async fn what_must_not_start_twice_is_claimed_before_it_starts() {
    let (mut bench, faults) = counting().await;
    bench.config.lazy_claim_seconds = 20.0;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    assert_eq!((bench.read(id).await.state, faults.claims.load(Ordering::SeqCst)), (State::Running, 1));
}

#[tokio::test]
async fn a_single_attempt_is_claimed_before_it_starts() {
    let mut bench = Bench::new().await;
    bench.config.lazy_claim_seconds = 20.0;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let id = bench.submit(NewJob { max_attempts: 1, ..job() }).await;
    gate.started().await;
    assert_eq!(bench.read(id).await.state, State::Running);
}

#[tokio::test]
async fn a_message_that_comes_twice_runs_once() {
    let mut bench = Bench::new().await;
    bench.config.lazy_claim_seconds = 20.0;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let dispatch = bench.accept(job()).await.expect("queued");
    bench.publisher.send(vec![dispatch.clone(), dispatch.clone(), dispatch.clone()]);
    let (id, _) = gate.started().await;
    bench.publisher.send(vec![dispatch]);
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
    assert_eq!(worker.drain().await, Exit::Drained);
    assert!(gate.is_quiet().await, "it started once");
}

#[tokio::test]
async fn losing_the_broker_claims_what_runs_and_repeats_nothing() {
    let mut bench = Bench::new().await;
    bench.config.lazy_claim_seconds = 20.0;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    assert_eq!(bench.read(id).await.state, State::Queued, "lazily");
    bench.lose_broker();
    bench.reaches(id, State::Running).await;
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
    worker.drain().await;
    assert!(gate.is_quiet().await, "it started once");
}

#[tokio::test]
async fn a_lazy_run_whose_job_was_taken_is_stopped_and_writes_nothing() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    let other = bench.store.join(&factory::worker(&[])).await.expect("joined");
    let dispatch = bench.accept(job()).await.expect("queued");
    let (id, epoch) = (dispatch.pointer.id, dispatch.pointer.epoch);
    bench.publisher.send(vec![dispatch]);
    gate.started().await;
    let nonce = offload_common::job::Nonce::new();
    let claim = Claim { job: id, epoch, nonce, running_for: std::time::Duration::ZERO };
    let taken = bench.store.claim(other.worker(), &[claim]).await.expect("claimed");
    if let [Claimed::Granted(lease)] = taken[..] {
        assert_eq!(gate.dropped().await, id);
        let row = bench.read(id).await;
        assert_eq!((row.state, row.epoch, row.worker), (State::Running, lease.epoch, Some(other.worker())));
    } else {
        // The worker's own claim was first: it keeps the job.
        gate.let_through(1);
        bench.reaches(id, State::Succeeded).await;
    }
}

#[tokio::test]
async fn a_kind_that_is_not_offered_here_goes_back_and_costs_no_attempt() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    let without = bench.worker(&[]);
    without.ready().await;
    let id = bench.submit(job()).await;
    let back = bench.reaches(id, State::Scheduled).await;
    assert_eq!((back.attempt, back.error.is_none()), (0, true));
    let _with = bench.worker(&[gate.kind(Effects::Repeatable)]);
    assert_eq!(without.drain().await, Exit::Drained);
    assert_eq!(gate.started().await, (id, 1));
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
}

#[tokio::test]
async fn the_message_of_a_long_run_is_settled_early() {
    let mut bench = Bench::new().await;
    bench.config.slots = 1;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    let next = bench.submit(job()).await;
    // One unsettled message is all that this worker takes: the next arrives only once the first is settled, and then
    // its job waits, queued, for the slot. Once the broker is lost, only what is unsettled would come again.
    eventually("the next message in the worker", async || (worker.probes.readiness().waiting == 1).then_some(())).await;
    gate.let_through(2);
    assert_eq!(gate.started().await.0, next);
    bench.reaches(id, State::Succeeded).await;
    bench.reaches(next, State::Succeeded).await;
}

#[tokio::test]
async fn a_run_that_is_replaced_before_its_claim_is_known_leaves_nothing_behind() {
    let (bench, faults) = counting().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    faults.lazy_claims_away.store(usize::MAX, Ordering::SeqCst);
    let dispatch = bench.accept(job()).await.expect("queued");
    let (id, epoch) = (dispatch.pointer.id, dispatch.pointer.epoch);
    bench.publisher.send(vec![dispatch]);
    assert_eq!(gate.started().await, (id, 1));
    eventually("a claim without an answer", async || (faults.claims.load(Ordering::SeqCst) > 0).then_some(())).await;
    // Another takes the job and leaves it; what is taken back from that one comes to this worker.
    let other = bench.store.join(&factory::worker(&[])).await.expect("joined");
    let nonce = offload_common::job::Nonce::new();
    let claim = Claim { job: id, epoch, nonce, running_for: std::time::Duration::ZERO };
    assert!(bench.store.claim(other.worker(), &[claim]).await.expect("claimed")[0].lease().is_some());
    other.leave().await.expect("left");
    assert_eq!(gate.dropped_and_started().await, (id, id));
    gate.let_through(1);
    assert_eq!(bench.reaches(id, State::Succeeded).await.losses, 1);
    assert_eq!(worker.drain().await, Exit::Drained, "the first run has ended, too");
}

#[tokio::test]
async fn a_row_that_cannot_be_claimed_holds_up_no_other() {
    let (bench, faults) = counting().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    worker.ready().await;
    let locked = job();
    faults.locked.send_replace(Some(locked.id));
    let locked = bench.submit(locked).await;
    for _ in 0..5 {
        let id = bench.submit(job()).await;
        assert_eq!(gate.started().await, (id, 1));
        gate.let_through(1);
        bench.reaches(id, State::Succeeded).await;
    }
    faults.locked.send_replace(None);
    assert_eq!(gate.started().await, (locked, 1));
    gate.let_through(1);
    bench.reaches(locked, State::Succeeded).await;
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn a_lazy_run_that_cannot_be_claimed_keeps_no_other_from_it() {
    let (bench, faults) = counting().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    worker.ready().await;
    let locked = job();
    faults.locked.send_replace(Some(locked.id));
    let mut others = Vec::new();
    let locked = bench.submit(locked).await;
    for _ in 0..5 {
        others.push(bench.submit(job()).await);
    }
    for _ in 0..6 {
        gate.started().await;
    }
    for id in &others {
        bench.reaches(*id, State::Running).await;
    }
    assert_eq!(bench.read(locked).await.state, State::Queued);
    gate.let_through(6);
    for id in others {
        bench.reaches(id, State::Succeeded).await;
    }
    faults.locked.send_replace(None);
    bench.reaches(locked, State::Succeeded).await;
    assert_eq!(worker.drain().await, Exit::Drained);
}

/// However many rows somebody holds locked: a beat waits behind one claim at most.
#[tokio::test]
async fn beats_go_on_between_claims_that_hang() {
    let (bench, faults) = counting().await;
    faults.lazy_claims_hang.send_replace(true);
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    worker.ready().await;
    let id = bench.submit(job()).await;
    gate.started().await;
    let mut hung = faults.hung.subscribe();
    let hung = *hung.wait_for(|hung| hung.all == 5).await.expect("the sender is here");
    assert_eq!(hung.between_two_beats, 1, "{hung:?}");
    faults.lazy_claims_hang.send_replace(false);
    bench.reaches(id, State::Running).await;
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
    assert_eq!(worker.drain().await, Exit::Drained);
}

/// Rows that stay locked for longer than the lease.
#[tokio::test]
async fn a_worker_whose_claims_hang_is_not_taken_for_dead() {
    let (mut bench, faults) = counting().await;
    bench.config.lease_seconds = 1.5;
    faults.lazy_claims_hang.send_replace(true);
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Repeatable)]);
    worker.ready().await;
    let id = bench.submit(job()).await;
    gate.started().await;
    let mut hung = faults.hung.subscribe();
    hung.wait_for(|hung| hung.all == 8).await.expect("the sender is here");
    faults.lazy_claims_hang.send_replace(false);
    assert_eq!(bench.reaches(id, State::Running).await.attempt, 1);
    gate.let_through(1);
    assert_eq!(bench.reaches(id, State::Succeeded).await.losses, 0);
    assert_eq!(worker.drain().await, Exit::Drained);
    assert!(gate.is_quiet().await, "it started once");
}
