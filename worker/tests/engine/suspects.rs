//! Jobs that lost workers before: suspects one at a time, in nobody's way.

use std::time::Duration;

use offload_common::job::{JobId, Nonce, State};
use offload_common::kind::Effects;
use offload_common::store::{Claim, ReapPolicy};
use offload_common::testing::factory;

use crate::engine::support::{Bench, Gate, job};

/// Jobs that have been running on so many workers that are gone.
async fn lost(bench: &Bench, count: usize, times: u32) -> Vec<JobId> {
    let mut pointers = Vec::new();
    for _ in 0..count {
        pointers.push(bench.accept(job()).await.expect("queued").pointer);
    }
    let ids = pointers.iter().map(|pointer| pointer.id).collect();
    for _ in 0..times {
        let taken_back =
            bench.store.reap(&ReapPolicy { lease: Duration::ZERO, judge: None }).await.expect("reaped").requeued;
        if !taken_back.is_empty() {
            pointers = taken_back.into_iter().map(|dispatch| dispatch.pointer).collect();
        }
        let session = bench.store.join(&factory::worker(&[])).await.expect("joined");
        for pointer in &pointers {
            let (nonce, running_for) = (Nonce::new(), Duration::ZERO);
            let claim = Claim { job: pointer.id, epoch: pointer.epoch, nonce, running_for };
            assert!(bench.store.claim(session.worker(), &[claim]).await.expect("claimed")[0].lease().is_some());
        }
        session.leave().await.expect("left");
    }
    ids
}

#[tokio::test]
async fn a_first_loss_is_no_suspicion() {
    let bench = Bench::new().await;
    let unlucky = lost(&bench, 6, 1).await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    // All of them start although none has ended.
    for _ in &unlucky {
        assert!(unlucky.contains(&gate.started().await.0));
    }
    unlucky.iter().for_each(|_| gate.let_through(1));
    for id in &unlucky {
        bench.reaches(*id, State::Succeeded).await;
    }
}

/// Their messages wait where there is no room, or were lost; and the broker brings other jobs all the time.
#[tokio::test]
async fn jobs_that_lost_their_worker_are_taken_by_whoever_has_room() {
    let mut bench = Bench::new().await;
    bench.config.steal_after_seconds = 3600.0;
    let never_lost = bench.accept(job()).await.expect("queued").pointer.id;
    let unlucky = lost(&bench, 6, 1).await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    for _ in &unlucky {
        assert!(unlucky.contains(&gate.started().await.0));
    }
    assert_eq!(bench.read(never_lost).await.state, State::Queued);
    gate.let_through(unlucky.len());
    for id in &unlucky {
        bench.reaches(*id, State::Succeeded).await;
    }
}

#[tokio::test]
async fn suspects_run_one_at_a_time_and_hold_up_nobody_else() {
    let bench = Bench::new().await;
    let suspects = lost(&bench, 6, 2).await;
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let (first, _) = gate.started().await;
    assert!(suspects.contains(&first));
    let innocent = bench.submit(job()).await;
    assert_eq!(gate.started().await.0, innocent, "no second suspect has started");
    // Each that ends, of whichever sort, is followed by at most one suspect.
    for _ in &suspects {
        gate.let_through(1);
    }
    gate.let_through(1);
    for id in &suspects {
        let done = bench.reaches(*id, State::Succeeded).await;
        assert_eq!((done.losses, done.attempt), (2, 1));
    }
    bench.reaches(innocent, State::Succeeded).await;
}

#[tokio::test]
async fn a_second_suspect_starts_only_when_the_first_has_ended() {
    let mut bench = Bench::new().await;
    bench.config.slots = 2;
    let suspects = lost(&bench, 3, 2).await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    for _ in &suspects {
        let (id, _) = gate.started().await;
        let running = bench.store.workers().await.expect("read").iter().map(|w| w.running).sum::<u64>();
        assert_eq!(running, 1, "alone among its kind");
        gate.let_through(1);
        bench.reaches(id, State::Succeeded).await;
    }
    worker.drain().await;
    assert!(gate.is_quiet().await);
}
