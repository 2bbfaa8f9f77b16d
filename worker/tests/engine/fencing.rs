//! A worker that was taken for dead, or fears that it soon will be.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use offload_common::job::{State, WorkerId};
use offload_common::kind::Effects;
use offload_common::store::{Judge, ReapPolicy};
use offload_common::testing::eventually;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, job, kind};

async fn bench() -> (Bench, Arc<Faults>, Faulty) {
    let bench = Bench::new().await;
    let faults = Arc::new(Faults::default());
    let faulty = Faulty { store: bench.store.clone(), faults: faults.clone() };
    (bench, faults, faulty)
}

#[tokio::test]
async fn a_fenced_worker_stops_its_handlers_and_joins_again_under_another_id() {
    let (mut bench, faults, faulty) = bench().await;
    // What it ran goes to others once its former self has been silent for this long.
    bench.config.lease_seconds = 2.0;
    let gate = Gate::new();
    let worker = bench.worker_on(Arc::new(faulty), &[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    let former = bench.read(id).await;
    faults.fencings.store(1, Ordering::SeqCst);
    assert_eq!(gate.dropped().await, id);
    eventually("another membership", async || {
        worker.probes.readiness().worker.filter(|id| Some(id) != former.worker.map(|w| w.to_string()).as_ref())
    })
    .await;
    assert_eq!(faults.finishes.load(Ordering::SeqCst), 0, "nothing was written for the run that was stopped");
    assert_eq!(gate.started().await, (id, 1));
    gate.let_through(1);
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.losses, done.attempt), (1, 1));
    assert_ne!(done.worker, former.worker);
}

/// It was taken for dead since its last beat, and does not know: what it cannot claim, others can run.
#[tokio::test]
async fn what_is_delivered_to_a_worker_that_is_no_member_is_given_back() {
    for effects in [Effects::Unsafe, Effects::Repeatable] {
        let mut bench = Bench::new().await;
        // Only its message can bring the job, and no beat comes by itself.
        (bench.config.steal_after_seconds, bench.config.heartbeat_seconds) = (3600.0, 3600.0);
        let gate = Gate::new();
        let worker = bench.worker(&[gate.kind(effects)]);
        worker.ready().await;
        let former = worker.probes.readiness().worker;
        let judge = Some(Judge { worker: WorkerId::new(), steady: true });
        let policy = ReapPolicy { lease: Duration::ZERO, judge };
        let reaped = bench.store.reap(&policy).await.expect("reaped");
        assert_eq!(reaped.workers.first().map(ToString::to_string), former);
        let id = bench.submit(job()).await;
        if effects == Effects::Repeatable {
            // Lazily: that it is no member shows when the run is to be claimed.
            gate.started().await;
            assert_eq!(gate.dropped().await, id);
        }
        assert_eq!(gate.started().await, (id, 1));
        gate.let_through(1);
        let done = bench.reaches(id, State::Succeeded).await;
        assert_eq!((done.losses, done.attempt), (0, 1));
        assert_ne!(done.worker.map(|id| id.to_string()), former);
        worker.drain().await;
        assert!(gate.is_quiet().await);
    }
}

/// Others may have taken it for dead, and its next beat is far off: it finds out at once.
#[tokio::test]
async fn a_worker_that_lost_its_connection_beats() {
    let (mut bench, faults, faulty) = bench().await;
    bench.config.heartbeat_seconds = 3600.0;
    let worker = bench.worker_on(Arc::new(faulty), &[Gate::new().kind(Effects::Unsafe)]);
    worker.ready().await;
    let former = worker.probes.readiness().worker;
    faults.fencings.store(1, Ordering::SeqCst);
    faults.connections_lost.store(1, Ordering::SeqCst);
    eventually("another membership", async || {
        worker.probes.readiness().worker.filter(|id| Some(id) != former.as_ref())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_is_out_of_touch_steps_back_and_hands_back() {
    let (mut bench, faults, faulty) = bench().await;
    bench.config.lease_seconds = 1.5;
    let gate = Gate::new();
    let worker = bench.worker_on(Arc::new(faulty), &[gate.kind(Effects::Unsafe)]);
    let id = bench.submit(job()).await;
    gate.started().await;
    faults.beats_away.store(usize::MAX, Ordering::SeqCst);
    assert_eq!(gate.dropped().await, id);
    assert!(!worker.probes.readiness().ready);
    faults.beats_away.store(0, Ordering::SeqCst);
    assert_eq!(gate.started().await, (id, 1));
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
}

/// Every thread that its jobs run on is taken by a handler that never lets go of it: it beats all the same, and claims
/// what it runs.
#[tokio::test]
async fn a_worker_whose_threads_are_all_taken_beats_and_claims() {
    let mut bench = Bench::new().await;
    bench.config.steal_after_seconds = 3600.0;
    let (go, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Mutex::new(blocked);
    let (tell, mut started) = tokio::sync::mpsc::unbounded_channel();
    let busy = kind(Effects::Repeatable, move |job, payload| {
        tell.send(job.id).expect("the test listens");
        // This thread waits until the test is done.
        let _ = blocked.lock().expect("not poisoned").recv();
        Box::pin(async { Ok(payload) })
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread");
    let worker = {
        let _in_it = runtime.enter();
        bench.worker_on(bench.another_store(), &[busy])
    };
    worker.ready().await;
    let pruned = || worker.probes.readiness().upkeep.get("pruner").filter(|pruner| pruner.passes > 0).cloned();
    eventually("nothing else is under way", async || pruned()).await;

    let id = bench.submit(job()).await;
    started.recv().await.expect("started");
    let running = bench.reaches(id, State::Running).await;
    let beat = async || bench.store.workers().await.expect("read").first().map(|worker| (worker.id, worker.beat_at));
    let (worker_id, first) = beat().await.expect("it is a member");
    let later = first + Duration::from_secs_f64(bench.config.heartbeat_seconds) * 10;
    eventually("ten beats", async || beat().await.filter(|(id, at)| *id == worker_id && *at > later)).await;
    drop(go);
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.worker, done.losses, done.epoch), (Some(worker_id), 0, running.epoch + 1));
    worker.drain().await;
    runtime.shutdown_background();
}

#[tokio::test]
async fn what_a_worker_left_running_is_run_by_another() {
    let mut bench = Bench::new().await;
    bench.config.lease_seconds = 1.0;
    // It joins, claims and is never heard of again.
    let lost = bench.store.join(&offload_common::testing::factory::worker(&[])).await.expect("joined");
    let pointer = bench.accept(job()).await.expect("queued").pointer;
    let claim = offload_common::store::Claim {
        job: pointer.id,
        epoch: pointer.epoch,
        nonce: offload_common::job::Nonce::new(),
        running_for: std::time::Duration::ZERO,
    };
    bench.store.claim(lost.worker(), &[claim]).await.expect("claimed");
    let gate = Gate::new();
    let _worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    assert_eq!(gate.started().await, (pointer.id, 1));
    gate.let_through(1);
    assert_eq!(bench.reaches(pointer.id, State::Succeeded).await.losses, 1);
    drop(lost);
}
