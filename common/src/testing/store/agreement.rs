//! The store against the decision: for each state and event, a row becomes what `decide` says, or stays.

use std::time::Duration;

use super::Database;
use super::steps::{
    APPLIED, Shared, claim, claim_of, failing, finish, finish_as, finish_of, join, lazy, promoted, queue,
    queued_after_losses, read, reap, released, running, snapshot,
};
use crate::job::transition::{Decision, Event, Failure, Retry, Transition, decide};
use crate::job::{After, AfterPolicy, Job, JobId, Lease, NewJob, Nonce, PARENT_NOT_SUCCEEDED, State, WorkerId};
use crate::retry::RetryPolicy;
use crate::store::{Fence, Finish, Finished, Pointer, Session};
use crate::testing::factory::{self, TENANT};

/// The rows that events are tried on.
pub(super) const SITUATIONS: [&str; 15] = [
    "scheduled",
    "waiting for another",
    "scheduled after a failure",
    "queued",
    "queued after a failure",
    "queued after a loss",
    "queued for its only attempt",
    "running",
    "running, to be cancelled",
    "running its last attempt",
    "running its only attempt",
    "running after two losses",
    "succeeded",
    "failed",
    "cancelled",
];

/// What can happen to a job.
pub(super) fn events() -> [Event; 14] {
    let forsaken = Failure { code: PARENT_NOT_SUCCEEDED.into(), message: String::new(), retry: Retry::Never };
    [
        Event::Proceed,
        Event::Forsake(forsaken),
        Event::Promote,
        Event::Claim,
        Event::Succeed,
        failing(Retry::Never),
        failing(Retry::Backoff),
        failing(Retry::After(Duration::from_secs(9))),
        Event::Snooze(Duration::from_secs(5)),
        Event::Decline(Duration::from_secs(5)),
        Event::Release,
        Event::Lose,
        Event::Cancel,
        Event::Stopped,
    ]
}

/// Makes a row; what runs, runs under `worker`.
pub(super) async fn make(store: &Shared, worker: WorkerId, situation: &str) -> JobId {
    let limited = |max_attempts| NewJob { max_attempts, ..factory::job() };
    let failed_once = async |job| {
        let lease = lazy(worker, queue(store, job).await);
        let mut write = finish_of(store, lease, &failing(Retry::Backoff)).await;
        // Due at once, where the policy would have it wait.
        write.transition.delay = Some(Duration::ZERO);
        assert_eq!(finish_as(store, &write).await, APPLIED);
        lease.job
    };
    match situation {
        "scheduled" => super::steps::accept(store, NewJob { admit: false, ..factory::job() }).await,
        "waiting for another" => {
            let after = After { jobs: vec![queue(store, factory::job()).await.id], policy: AfterPolicy::Cancel };
            super::steps::accept(store, NewJob { after: Some(after), admit: false, ..factory::job() }).await
        }
        "scheduled after a failure" => failed_once(factory::job()).await,
        "queued" => queue(store, factory::job()).await.id,
        "queued after a failure" => promoted(store, failed_once(factory::job()).await).await.id,
        "queued after a loss" => queued_after_losses(store, 1).await.id,
        "queued for its only attempt" => queue(store, limited(1)).await.id,
        "running" => running(store, worker, factory::job()).await.job,
        "running, to be cancelled" => {
            let id = running(store, worker, factory::job()).await.job;
            store.cancel(TENANT, id).await.expect("asked");
            id
        }
        "running its last attempt" => {
            let pointer = promoted(store, failed_once(limited(2)).await).await;
            claim(store, worker, pointer).await.job
        }
        "running its only attempt" => running(store, worker, limited(1)).await.job,
        "running after two losses" => {
            let pointer = queued_after_losses(store, 2).await;
            claim(store, worker, pointer).await.job
        }
        "succeeded" | "failed" => {
            let lease = lazy(worker, queue(store, factory::job()).await);
            let event = if situation == "failed" { failing(Retry::Never) } else { Event::Succeed };
            finish(store, lease, &event).await;
            lease.job
        }
        "cancelled" => {
            let id = queue(store, factory::job()).await.id;
            store.cancel(TENANT, id).await.expect("asked");
            id
        }
        other => panic!("no such situation: {other}"),
    }
}

/// Lets the event happen to the row through the method of the port that it happens by. Answers the session, unless it was
/// left.
pub(super) async fn happen(
    store: &Shared,
    session: Box<dyn Session>,
    before: &Job,
    event: &Event,
) -> Option<Box<dyn Session>> {
    let pointer = Pointer { id: before.id, epoch: before.epoch, queued_at: 0 };
    match event {
        Event::Proceed | Event::Forsake(_) => {
            for parent in before.parents.iter().flat_map(|parents| &parents.first) {
                let pointer = Pointer { id: *parent, epoch: read(store, *parent).await.epoch, queued_at: 0 };
                let end = if *event == Event::Proceed { Event::Succeed } else { failing(Retry::Never) };
                finish(store, lazy(session.worker(), pointer), &end).await;
            }
            released(store).await;
        }
        Event::Promote => drop(store.promote(10_000, 1000).await.expect("promoted")),
        Event::Claim => drop(store.claim(session.worker(), &[claim_of(pointer)]).await.expect("claimed")),
        Event::Cancel => drop(store.cancel(TENANT, before.id).await.expect("asked")),
        Event::Decline(delay) => store.decline(&[pointer], *delay).await.expect("declined"),
        Event::Lose => {
            session.leave().await.expect("left");
            reap(store).await;
            return None;
        }
        _ => {
            // What a worker decides: only what is decided can be written at all.
            let Ok(Decision::Move(transition)) = decide(&snapshot(before), event, &RetryPolicy::default(), 0.5) else {
                return Some(session);
            };
            let claimed = before.state == State::Running;
            let lease =
                Lease { job: before.id, epoch: before.epoch, worker: session.worker(), nonce: Nonce::new(), claimed };
            let result = (transition.to == State::Succeeded).then(|| factory::raw("1"));
            let write = Finish { lease, transition, result, ran_for: Duration::ZERO, linked: false };
            assert!(matches!(finish_as(store, &write).await, Finished::Applied(_)));
        }
    }
    Some(session)
}

pub async fn every_operation_does_what_is_decided(db: &impl Database) {
    let store = db.store();
    let events = events();
    // Keeps the kind live while the workers of the cases leave.
    let _bystander = join(&store).await;
    for situation in SITUATIONS {
        for event in &events {
            let session = join(&store).await;
            let id = make(&store, session.worker(), situation).await;
            let before = read(&store, id).await;
            let decision = decide(&snapshot(&before), event, &RetryPolicy::default(), 0.5);
            happen(&store, session, &before, event).await;
            let after = read(&store, id).await;
            let case = format!("{situation}, {event:?}: {decision:?}");
            let rest = (after.state, after.attempt, after.losses, after.cancel_requested);
            let kept = (before.state, before.attempt, before.losses);
            match decision {
                Err(_) => {
                    assert_eq!(rest, (kept.0, kept.1, kept.2, before.cancel_requested), "{case}");
                    assert_eq!(after.epoch, before.epoch, "{case}");
                }
                Ok(Decision::RequestCancel) => {
                    assert_eq!(rest, (kept.0, kept.1, kept.2, true), "{case}");
                    assert_eq!(after.epoch, before.epoch, "{case}");
                }
                Ok(Decision::Move(to)) => {
                    assert_eq!((after.state, after.attempt, after.losses), (to.to, to.attempt, to.losses), "{case}");
                    assert_eq!(after.epoch, before.epoch + 1, "{case}");
                    assert_eq!(after.state.is_final(), after.finished_at.is_some(), "{case}");
                    let failures = before.history.len() + usize::from(to.failure.is_some());
                    assert_eq!(after.history.len(), failures, "{case}");
                    if let Some((code, message)) = &to.failure {
                        let error = after.error.as_ref().expect("it failed");
                        // What a parent came to is told by the store.
                        let told = message.is_empty() || error.message == *message;
                        assert!(error.code == *code && told, "{case}: {error:?}");
                    }
                    match to.delay {
                        Some(delay) if delay > Duration::ZERO => assert!(!after.due, "{case}"),
                        _ => {}
                    }
                }
            }
            // The row must not wander into the next case's promote or steal.
            store.cancel(TENANT, id).await.expect("asked");
        }
    }
}

/// The guard of the statement, which no other place in the code decides.
pub async fn an_end_is_taken_where_the_fence_says(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    for situation in SITUATIONS {
        for (behind, claimed) in [(0, true), (0, false), (1, true), (1, false)] {
            for to in [State::Succeeded, State::Scheduled] {
                let job = make(&store, worker, situation).await;
                let before = read(&store, job).await;
                let transition = Transition {
                    to,
                    attempt: before.attempt,
                    losses: before.losses,
                    delay: (to == State::Scheduled).then_some(Duration::from_secs(600)),
                    failure: None,
                };
                let lease = Lease { job, epoch: before.epoch - behind, worker, nonce: Nonce::new(), claimed };
                let result = (to == State::Succeeded).then(|| factory::raw("1"));
                let write = Finish { lease, transition, result, ran_for: Duration::ZERO, linked: false };
                // Nobody but the run knows its nonce, and whether the row takes the end does not depend on it.
                let Job { state, epoch, cancel_requested, .. } = before;
                let fence = Fence { state, epoch, nonce: None, cancel_requested };
                let taken = finish_as(&store, &write).await == APPLIED;
                assert_eq!(taken, fence.takes(&write), "{situation}: {behind} behind, claimed {claimed}, to {to}");
                assert_eq!(read(&store, job).await.epoch, before.epoch + i64::from(taken));
                // The row must not wander into the next case's promote.
                store.cancel(TENANT, job).await.expect("asked");
            }
        }
    }
}
