//! Writing the ends of runs, when the store makes difficulties.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use offload_common::job::{JobId, NewJob, State};
use offload_common::kind::Effects;
use offload_common::testing::eventually;
use offload_common::testing::factory::raw;
use offload_worker::Exit;
use offload_worker::kind::AnyKind;

use crate::engine::support::faulty::{Faults, Faulty, Panics, Poison};
use crate::engine::support::{Bench, job, kind, numbered};

async fn bench(faults: Faults) -> Bench {
    let mut bench = Bench::new().await;
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: Arc::new(faults) });
    bench
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for() {
    let bench = bench(Faults { finishes_away: AtomicUsize::new(3), ..Faults::default() }).await;
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    let id = bench.submit(numbered(1)).await;
    assert_eq!(bench.reaches(id, State::Succeeded).await.attempt, 1);
}

#[tokio::test]
async fn a_reply_that_was_lost_is_asked_for_again() {
    let bench = bench(Faults { finishes_unheard: AtomicUsize::new(2), ..Faults::default() }).await;
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    let (first, second) = (bench.submit(numbered(1)).await, bench.submit(numbered(2)).await);
    for id in [first, second] {
        let done = bench.reaches(id, State::Succeeded).await;
        assert_eq!((done.attempt, done.history.len()), (1, 0));
    }
}

/// Twenty jobs at once, one of them poison; those that succeed do so whatever becomes of that one. Answers its id.
async fn poisoned(bench: &Bench) -> JobId {
    let mut ids = Vec::new();
    for n in 0..20 {
        let payload = if n == 11 { raw(r#""poison""#) } else { raw("1") };
        ids.push(bench.submit(NewJob { payload, ..job() }).await);
    }
    let poison = ids.remove(11);
    for id in ids {
        bench.reaches(id, State::Succeeded).await;
    }
    poison
}

fn echo() -> Arc<dyn AnyKind> {
    kind(Effects::Repeatable, |_, payload| Box::pin(async move { Ok(payload) }))
}

#[tokio::test]
async fn a_result_that_the_store_refuses_fails_its_own_job_alone() {
    for poison in [Poison::Refused, Poison::Panics] {
        let bench = bench(Faults { poison: Some(poison), ..Faults::default() }).await;
        let worker = bench.worker(&[echo()]);
        let failed = bench.reaches(poisoned(&bench).await, State::Failed).await;
        assert_eq!((failed.error.expect("an error").code.as_str(), failed.attempt), ("result_rejected", 1));
        assert_eq!(worker.drain().await, Exit::Drained);
    }
}

#[tokio::test]
async fn an_end_that_is_never_answered_holds_up_no_other() {
    let mut bench = bench(Faults { poison: Some(Poison::Unanswered), ..Faults::default() }).await;
    (bench.config.slots, bench.config.drain_seconds) = (32, 0);
    let worker = bench.worker(&[echo()]);
    let id = poisoned(&bench).await;
    // Those that come later are not held up either.
    for n in 0..5 {
        let next = bench.submit(numbered(n)).await;
        bench.reaches(next, State::Succeeded).await;
    }
    assert!(!bench.read(id).await.state.is_final());
    assert_eq!(worker.drain().await, Exit::HandedBack(1));
}

#[tokio::test]
async fn a_write_that_panics_once_loses_no_end() {
    let panics = Panics { finish: AtomicUsize::new(1), ..Panics::default() };
    let bench = bench(Faults { panics, ..Faults::default() }).await;
    let worker = bench.worker(&[echo()]);
    let id = bench.submit(numbered(1)).await;
    assert_eq!(bench.reaches(id, State::Succeeded).await.attempt, 1);
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn heavy_results_do_not_pile_up_in_one_statement() {
    let mut bench = Bench::new().await;
    // What is stolen from a run here takes a second slot.
    bench.config.steal_after_seconds = 3600.0;
    let faults = Arc::new(Faults::default());
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: faults.clone() });
    let heavy = kind(Effects::Repeatable, |_, _| Box::pin(async { Ok("x".repeat(6 << 20).into()) }));
    let worker = bench.worker(&[heavy]);
    faults.finishes_held.send_replace(true);
    let mut ids = Vec::new();
    for n in 0..bench.config.slots as usize {
        ids.push(bench.submit(numbered(n)).await);
    }
    let all = bench.config.slots as usize;
    eventually("all run", async || (worker.probes.readiness().running == all).then_some(())).await;
    faults.finishes_held.send_replace(false);
    for id in ids {
        bench.reaches(id, State::Succeeded).await;
    }
    let heaviest = faults.heaviest.load(std::sync::atomic::Ordering::SeqCst);
    assert!(heaviest <= 16 << 20, "{heaviest}");
}
