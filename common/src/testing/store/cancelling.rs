//! Cancelling, and what it races with.

use std::time::Duration;

use super::Database;
use super::steps::{
    APPLIED, accept, claim_of, failing, finish, finish_as, finish_of, join, lazy, queue, read, running, together,
};
use crate::job::transition::{Event, Retry};
use crate::job::{NewJob, State, WorkerId};
use crate::store::{Cancelled, Claimed, Finished};
use crate::testing::factory::{self, TENANT};

pub async fn a_job_that_has_not_started_is_cancelled_at_once(db: &impl Database) {
    let store = db.store();
    let queued = queue(&store, factory::job()).await;
    let scheduled = accept(&store, NewJob { delay: Some(Duration::from_secs(60)), ..factory::job() }).await;
    for id in [queued.id, scheduled] {
        let before = read(&store, id).await;
        assert_eq!(store.cancel(TENANT, id).await.expect("asked"), Some(Cancelled::Now));
        let job = read(&store, id).await;
        assert_eq!((job.state, job.epoch, job.attempt), (State::Cancelled, before.epoch + 1, 0));
        assert!(job.finished_at.is_some() && job.started_at.is_none());
        assert_eq!(store.cancel(TENANT, id).await.expect("asked"), Some(Cancelled::Now), "it was before");
        assert_eq!(read(&store, id).await.epoch, job.epoch);
    }
    let session = join(&store).await;
    let late = store.claim(session.worker(), &[claim_of(queued)]).await.expect("claimed");
    assert_eq!(late, [Claimed::MovedOn], "its message is void");
}

pub async fn cancelling_a_running_job_leaves_the_lease_good(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    for _ in 0..2 {
        assert_eq!(store.cancel(TENANT, lease.job).await.expect("asked"), Some(Cancelled::Requested));
        let job = read(&store, lease.job).await;
        assert_eq!((job.state, job.epoch, job.cancel_requested), (State::Running, lease.epoch, true));
    }
    assert_eq!(finish(&store, lease, &Event::Stopped).await, APPLIED);
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.attempt), (State::Cancelled, 1));
    assert!(job.finished_at.is_some());
}

pub async fn a_wish_to_cancel_is_not_lost_to_a_retry(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    for event in [failing(Retry::Backoff), Event::Snooze(Duration::ZERO), Event::Release] {
        let lease = running(&store, session.worker(), factory::job()).await;
        let decided_before = finish_of(&store, lease, &event).await;
        store.cancel(TENANT, lease.job).await.expect("asked");
        assert_eq!(finish_as(&store, &decided_before).await, Finished::CancelRequested, "{event:?}");
        assert_eq!(read(&store, lease.job).await.state, State::Running, "nothing was written");
        assert_eq!(finish(&store, lease, &event).await, APPLIED, "decided again");
        assert_eq!(read(&store, lease.job).await.state, State::Cancelled);
    }
}

pub async fn success_wins_over_a_wish_to_cancel(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    store.cancel(TENANT, lease.job).await.expect("asked");
    assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);
    assert_eq!(read(&store, lease.job).await.state, State::Succeeded);
}

pub async fn cancelling_comes_too_late_for_what_has_ended(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    for (event, state) in [(Event::Succeed, State::Succeeded), (failing(Retry::Never), State::Failed)] {
        let lease = lazy(session.worker(), queue(&store, factory::job()).await);
        finish(&store, lease, &event).await;
        let answer = store.cancel(TENANT, lease.job).await.expect("asked");
        assert_eq!(answer, Some(Cancelled::TooLate(state)));
        assert_eq!(read(&store, lease.job).await.state, state);
    }
}

/// A cancel meets a finish that wants a retry: whichever comes first, the job ends cancelled.
pub async fn a_cancel_races_a_retry(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    for _ in 0..25 {
        let lease = running(&here, session.worker(), factory::job()).await;
        let write = finish_of(&here, lease, &failing(Retry::After(Duration::from_secs(60)))).await;
        let cancel = tokio::spawn({
            let there = there.clone();
            async move { there.cancel(TENANT, lease.job).await.expect("asked") }
        });
        let mut finished = finish_as(&here, &write).await;
        let cancelled = cancel.await.expect("joined").expect("the row is there");
        if finished == Finished::CancelRequested {
            assert_eq!(cancelled, Cancelled::Requested);
            finished = finish(&here, lease, &failing(Retry::Backoff)).await;
        } else {
            assert_eq!(cancelled, Cancelled::Now, "it found the job waiting for its retry");
        }
        assert_eq!(finished, APPLIED);
        assert_eq!(read(&here, lease.job).await.state, State::Cancelled);
    }
}

/// A cancel meets a success: the answer to the client agrees with the row.
pub async fn a_cancel_races_a_success(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    for n in 0..25 {
        let pointer = queue(&here, factory::job()).await;
        let write = finish_of(&here, lazy(WorkerId::new(), pointer), &Event::Succeed).await;
        let mut answers = together([n % 2 == 0, n % 2 != 0].map(|cancels| {
            let (here, there, write) = (here.clone(), there.clone(), write.clone());
            async move {
                if cancels {
                    (there.cancel(TENANT, pointer.id).await.expect("asked"), None)
                } else {
                    (None, Some(finish_as(&here, &write).await))
                }
            }
        }))
        .await;
        answers.sort_by_key(|(cancelled, _)| cancelled.is_none());
        let (cancelled, finished) = (answers[0].0.clone().expect("there"), answers[1].1.clone().expect("finished"));
        let state = read(&here, pointer.id).await.state;
        match cancelled {
            Cancelled::Now => assert_eq!((finished, state), (Finished::Lost, State::Cancelled)),
            Cancelled::TooLate(State::Succeeded) => assert_eq!((finished, state), (APPLIED, State::Succeeded)),
            other => panic!("{other:?}"),
        }
    }
}
