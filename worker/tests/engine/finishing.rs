//! Writing the ends of runs, when the store makes difficulties.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use offload_common::job::State;
use offload_common::kind::Effects;
use offload_common::testing::factory::raw;

use crate::engine::support::faulty::{Faults, Faulty};
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

#[tokio::test]
async fn a_result_that_the_store_refuses_fails_its_own_job_alone() {
    let bench = bench(Faults { refuses_poison: true, ..Faults::default() }).await;
    let jobs: Vec<_> = (0..20).map(|n| if n == 11 { raw(r#""poison""#) } else { raw("1") }).collect();
    let mut ids = Vec::new();
    for payload in jobs {
        ids.push(bench.submit(offload_common::job::NewJob { payload, ..job() }).await);
    }
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, payload| Box::pin(async move { Ok(payload) }))]);
    for (n, id) in ids.into_iter().enumerate() {
        if n == 11 {
            let failed = bench.reaches(id, State::Failed).await;
            assert_eq!((failed.error.expect("an error").code.as_str(), failed.attempt), ("result_rejected", 1));
        } else {
            bench.reaches(id, State::Succeeded).await;
        }
    }
}
