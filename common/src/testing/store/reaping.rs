//! Reaping: the jobs of workers that are gone, and nobody else's.

use std::time::Duration;

use super::Database;
use super::steps::{
    APPLIED, IMPATIENT, JUDGE, PATIENT, Shared, accept, claim_and_leave, finish, finish_as, join, orphaned, queue,
    queued_after_losses, read, reap, running, steal_all, together,
};
use crate::job::transition::{Event, Transition, WORKER_LOST};
use crate::job::{Lease, NewJob, State};
use crate::store::{Beat, Finish, Finished, Judge, ReapPolicy, Steal};
use crate::testing::eventually;
use crate::testing::factory::{self, TENANT};

pub async fn live_workers_keep_their_jobs(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let mut session = join(&here).await;
    let lease = running(&here, session.worker(), factory::job()).await;
    let bystanders = [queue(&here, factory::job()).await.id, {
        accept(&here, NewJob { delay: Some(Duration::from_secs(60)), ..factory::job() }).await
    }];
    for store in [&here, &there, &here] {
        let reaped = store.reap(&PATIENT).await.expect("reaped");
        assert!(reaped.workers.is_empty() && reaped.requeued.is_empty() && reaped.ended.is_empty(), "{reaped:?}");
    }
    let job = read(&here, lease.job).await;
    assert_eq!((job.state, job.epoch, job.losses), (State::Running, lease.epoch, 0));
    assert_eq!(read(&here, bystanders[0]).await.state, State::Queued);
    assert_eq!(read(&here, bystanders[1]).await.state, State::Scheduled);
    assert_eq!(session.beat().await.expect("beaten"), Beat::Alive { cancel: Vec::new() });
    assert_eq!(finish(&here, lease, &Event::Succeed).await, APPLIED);
}

pub async fn jobs_of_workers_that_are_gone_are_queued_again(db: &impl Database) {
    let store = db.store();
    let traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    let lease = orphaned(&store, NewJob { traceparent: traceparent.clone(), ..factory::job() }).await;
    let reaped = reap(&store).await;
    let [dispatch] = &reaped.requeued[..] else { panic!("expected one row, not {reaped:?}") };
    assert!(reaped.ended.is_empty());
    assert_eq!((&dispatch.lane, &dispatch.traceparent), (&factory::lane("default"), &traceparent));
    assert_eq!((dispatch.pointer.id, dispatch.pointer.epoch), (lease.job, lease.epoch + 1));
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.epoch), (State::Queued, lease.epoch + 1));
    assert_eq!((job.attempt, job.losses), (0, 1), "the attempt is given back, the loss counted");
    assert_eq!(job.queued_at.expect("queued").timestamp_micros(), dispatch.pointer.queued_at);
    let again = reap(&store).await;
    assert!(again.requeued.is_empty(), "once is enough");
}

pub async fn jobs_of_a_worker_that_left_are_queued_again(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    session.leave().await.expect("left");
    reap(&store).await;
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.attempt, job.losses), (State::Queued, 0, 1));
    assert_eq!(finish_late(&store, lease).await, Finished::Lost);
}

async fn finish_late(store: &Shared, lease: Lease) -> Finished {
    let running = Finish {
        lease,
        transition: Transition { to: State::Succeeded, attempt: 1, losses: 0, delay: None, failure: None },
        result: Some(factory::raw("1")),
        ran_for: Duration::ZERO,
        linked: false,
    };
    finish_as(store, &running).await
}

pub async fn a_reaped_worker_is_fenced(db: &impl Database) {
    let store = db.store();
    let mut session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let reaped = store.reap(&IMPATIENT).await.expect("reaped");
    assert_eq!(reaped.workers, [session.worker()]);
    assert_eq!(reaped.requeued.len(), 1);
    assert_eq!(session.beat().await.expect("beaten"), Beat::Fenced);
    assert_eq!(session.beat().await.expect("beaten"), Beat::Fenced, "for good");
    assert_eq!(finish_late(&store, lease).await, Finished::Lost);
    assert!(store.workers().await.expect("listed").is_empty());
    let again = store.reap(&IMPATIENT).await.expect("reaped");
    assert!(again.workers.is_empty(), "it was found lost before");
    let mut next = join(&store).await;
    assert_ne!(next.worker(), session.worker(), "a new life has a new id");
    assert!(matches!(next.beat().await.expect("beaten"), Beat::Alive { .. }));
}

/// Two workers, one of them silent: only its jobs are taken.
pub async fn silence_is_what_counts(db: &impl Database) {
    let store = db.store();
    let (silent, mut lively) = (join(&store).await, join(&store).await);
    let lost = running(&store, silent.worker(), factory::job()).await;
    let kept = running(&store, lively.worker(), factory::job()).await;
    let policy = ReapPolicy { lease: Duration::from_secs(2), ..PATIENT };
    eventually("the silent worker is reaped", async || {
        assert!(matches!(lively.beat().await.expect("beaten"), Beat::Alive { .. }));
        let reaped = store.reap(&policy).await.expect("reaped");
        assert!(!reaped.workers.contains(&lively.worker()), "a beat was a moment ago");
        (reaped.workers == [silent.worker()]).then_some(())
    })
    .await;
    assert_eq!(read(&store, lost.job).await.state, State::Queued);
    assert_eq!(read(&store, kept.job).await.state, State::Running);
}

/// A caller that is no member, or could not beat itself, marks nobody, but takes what certainly is nobody's.
pub async fn who_cannot_judge_marks_nobody(db: &impl Database) {
    let store = db.store();
    let mut silent = join(&store).await;
    let kept = running(&store, silent.worker(), factory::job()).await;
    for judge in [None, Some(Judge { steady: false, ..JUDGE })] {
        let lost = orphaned(&store, factory::job()).await;
        let reaped = store.reap(&ReapPolicy { judge, ..IMPATIENT }).await.expect("reaped");
        assert!(reaped.workers.is_empty());
        assert_eq!(reaped.requeued.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), [lost.job]);
    }
    assert_eq!(read(&store, kept.job).await.state, State::Running);
    assert!(matches!(silent.beat().await.expect("beaten"), Beat::Alive { .. }));
}

/// What is queued again is to start at once. Where its message waits for a worker without room, others are told of it.
pub async fn what_waits_again_is_told_until_it_starts(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    queue(&store, factory::job()).await;
    let pointer = queued_after_losses(&store, 1).await;
    assert!(!reap(&store).await.waiting, "its message is on its way");
    let waiting = async || reap(&store).await.waiting.then_some(());
    eventually("it is told", waiting).await;
    let rescue = Steal { older_than: None, ..steal_all(session.worker()) };
    let stolen = store.steal(&rescue).await.expect("stolen");
    assert_eq!(stolen.iter().map(|(job, _)| job.id).collect::<Vec<_>>(), [pointer.id], "and nothing else");
    assert!(!reap(&store).await.waiting);
}

pub async fn the_third_loss_ends_a_job(db: &impl Database) {
    let store = db.store();
    let pointer = queued_after_losses(&store, 2).await;
    let lease = claim_and_leave(&store, pointer).await;
    let reaped = reap(&store).await;
    assert_eq!((reaped.ended.as_slice(), reaped.requeued.len()), (&[lease.job][..], 0));
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.losses, job.attempt), (State::Failed, 3, 1));
    assert!(job.finished_at.is_some());
    let error = job.error.expect("it says why");
    assert_eq!(error.code, WORKER_LOST);
    assert_eq!(job.history.last().map(|attempt| attempt.code.as_str()), Some(WORKER_LOST));
}

pub async fn a_lost_job_with_one_attempt_fails(db: &impl Database) {
    let store = db.store();
    let lease = orphaned(&store, NewJob { max_attempts: 1, ..factory::job() }).await;
    let reaped = reap(&store).await;
    assert_eq!(reaped.ended, [lease.job]);
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.losses), (State::Failed, 1));
    assert_eq!(job.error.expect("it says why").code, WORKER_LOST);
}

pub async fn a_lost_job_that_was_to_be_cancelled_is(db: &impl Database) {
    let store = db.store();
    let lease = orphaned(&store, factory::job()).await;
    store.cancel(TENANT, lease.job).await.expect("asked");
    let reaped = reap(&store).await;
    assert_eq!(reaped.ended, [lease.job]);
    assert_eq!(read(&store, lease.job).await.state, State::Cancelled);
}

pub async fn racing_reapers_take_each_job_once(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let gone = join(&here).await;
    let mut leases = Vec::new();
    for _ in 0..30 {
        leases.push(running(&here, gone.worker(), factory::job()).await);
    }
    gone.leave().await.expect("left");
    let passes = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move { reap(&store).await }
    }))
    .await;
    let requeued: Vec<_> = passes.iter().flat_map(|reaped| &reaped.requeued).collect();
    assert_eq!(requeued.len(), 30);
    for lease in leases {
        let job = read(&here, lease.job).await;
        assert_eq!((job.state, job.epoch, job.losses), (State::Queued, lease.epoch + 1, 1));
    }
}
