//! What the broker lost is found in the database.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use offload_common::job::State;
use offload_common::kind::Effects;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, kind, numbered};

/// A bench whose workers steal soon.
async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench.config.steal_after_seconds = 0.2;
    bench
}

#[tokio::test]
async fn jobs_whose_messages_were_lost_are_stolen() {
    let bench = bench().await;
    let mut ids = Vec::new();
    // Many times the slots: what is stolen is replaced by more as it ends.
    for n in 0..200 {
        ids.push(bench.accept(numbered(n)).await.expect("queued").pointer.id);
    }
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    for id in ids {
        let done = bench.reaches(id, State::Succeeded).await;
        assert_eq!((done.attempt, done.losses), (1, 0));
    }
}

#[tokio::test]
async fn a_row_that_says_it_runs_here_and_does_not_is_handed_back() {
    let bench = bench().await;
    let id = bench.accept(numbered(1)).await.expect("queued").pointer.id;
    let faults = Arc::new(Faults { steals_unheard: AtomicUsize::new(1), ..Faults::default() });
    let faulty = Arc::new(Faulty { store: bench.store.clone(), faults });
    let _worker = bench.worker_on(faulty, &[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.attempt, done.losses), (1, 0), "it is nobody's fault");
}

#[tokio::test]
async fn a_claim_whose_reply_is_slow_is_no_stray() {
    let bench = Bench::new().await;
    let faults = Arc::new(Faults { claims_slow: AtomicUsize::new(1), ..Faults::default() });
    let faulty = Arc::new(Faulty { store: bench.store.clone(), faults });
    let gate = Gate::new();
    let worker = bench.worker_on(faulty, &[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(numbered(1)).await;
    gate.started().await;
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
    worker.drain().await;
    assert!(gate.is_quiet().await, "it started once");
}
