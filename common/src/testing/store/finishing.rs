//! Finishes: how a run ends, and whose end counts.

use std::time::Duration;

use super::Database;
use super::steps::{
    APPLIED, IMPATIENT, claim, claim_of, decided, failing, finish, finish_as, finish_of, join, lazy, promoted, queue,
    queue_all, read, running, steal_all, together,
};
use crate::job::transition::{Event, Retry};
use crate::job::{JobId, Lease, Nonce, State, WorkerId};
use crate::store::{Finish, Finished, Pointer, Report};
use crate::testing::factory;

/// A short run costs no claim: its finish counts the attempt.
pub async fn a_lazy_run_succeeds_in_one_write(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    let lease = lazy(session.worker(), pointer);
    assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);
    let job = read(&store, pointer.id).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Succeeded, pointer.epoch + 1, 1));
    assert_eq!((job.worker, job.error), (Some(session.worker()), None));
    assert_eq!(job.result.expect("it succeeded").get(), r#"{"done": true}"#);
    let (started, finished) = (job.started_at.expect("started"), job.finished_at.expect("finished"));
    assert_eq!((finished - started).to_std().expect("after"), Duration::from_millis(20), "it ran that long");
}

pub async fn a_claimed_run_succeeds(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let started = read(&store, lease.job).await.started_at;
    assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Succeeded, lease.epoch + 1, 1));
    assert_eq!((job.started_at, job.error), (started, None), "its start stays what the claim wrote");
    assert!(job.finished_at.expect("finished") >= started.expect("started"));
    assert_eq!(job.result.expect("it succeeded").get(), r#"{"done": true}"#);
}

pub async fn a_retry_is_scheduled_with_its_error_and_history(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let first = lazy(session.worker(), queue(&store, factory::job()).await);
    let delay = Duration::from_secs(600);
    assert_eq!(finish(&store, first, &failing(Retry::After(delay))).await, APPLIED);
    let job = read(&store, first.job).await;
    assert_eq!((job.state, job.visible_state(), job.due), (State::Scheduled, State::Scheduled, false));
    assert_eq!((job.attempt, job.epoch, job.finished_at), (1, first.epoch + 1, None));
    let error = job.error.expect("it failed");
    assert_eq!((error.code.as_str(), error.attempt), ("boom", 1));
    assert_eq!(error.message, "it broke: \"quoted\" — ünïcode");
    let wait = (job.run_at - error.at).as_seconds_f64();
    assert!((wait - delay.as_secs_f64()).abs() < 1.0, "due {wait} s after the failure");
    let [attempt] = &job.history[..] else { panic!("one failed attempt, not {:?}", job.history) };
    assert_eq!((attempt.attempt, attempt.code.as_str(), &attempt.message), (1, "boom", &error.message));
    assert_eq!((attempt.worker, attempt.ended_at), (Some(session.worker()), error.at));
    assert!(attempt.started_at.expect("started") <= attempt.ended_at);
}

/// The history grows by one entry per failed attempt, whether the run was lazy or claimed, and outlives success.
pub async fn history_keeps_every_failed_attempt(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let id = queue(&store, factory::job()).await.id;
    let mut pointer = store.fetch(&[id]).await.expect("fetched")[0].as_ref().expect("there").epoch;
    for attempt in 1..=3 {
        let at = Pointer { id, epoch: pointer, queued_at: 0 };
        let lease = if attempt == 2 { lazy(session.worker(), at) } else { claim(&store, session.worker(), at).await };
        assert_eq!(finish(&store, lease, &failing(Retry::After(Duration::ZERO))).await, APPLIED);
        pointer = promoted(&store, id).await.epoch;
    }
    let last = claim(&store, session.worker(), Pointer { id, epoch: pointer, queued_at: 0 }).await;
    assert_eq!(finish(&store, last, &Event::Succeed).await, APPLIED);
    let job = read(&store, id).await;
    assert_eq!((job.state, job.attempt), (State::Succeeded, 4));
    assert_eq!(job.history.iter().map(|failed| failed.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(job.history.is_sorted_by_key(|failed| failed.ended_at));
}

pub async fn a_final_failure_ends_the_job(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    assert_eq!(finish(&store, lease, &failing(Retry::Never)).await, APPLIED);
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.attempt, job.history.len()), (State::Failed, 1, 1));
    assert!(job.finished_at.is_some() && job.result.is_none());
    assert_eq!(job.error.expect("it failed").code, "boom");
}

/// The reply to a finish was lost, and the worker writes it again: it is told that it did it, and nothing is doubled.
pub async fn a_repeated_finish_is_recognised(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    for (event, claimed) in
        [(Event::Succeed, true), (Event::Succeed, false), (failing(Retry::After(Duration::from_secs(60))), true)]
    {
        let pointer = queue(&store, factory::job()).await;
        let lease =
            if claimed { claim(&store, session.worker(), pointer).await } else { lazy(session.worker(), pointer) };
        let write = finish_of(&store, lease, &event).await;
        assert_eq!(finish_as(&store, &write).await, APPLIED);
        let once = read(&store, lease.job).await;
        assert_eq!(finish_as(&store, &write).await, APPLIED);
        let twice = read(&store, lease.job).await;
        assert_eq!((twice.epoch, twice.attempt), (lease.epoch + 1, 1), "it took effect once");
        assert_eq!((once.finished_at, once.history), (twice.finished_at, twice.history));
        let stranger = Finish { lease: Lease { nonce: Nonce::new(), ..lease }, ..write };
        assert_eq!(finish_as(&store, &stranger).await, Finished::Lost, "another run did not do it");
    }
}

pub async fn a_stale_epoch_cannot_finish(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    let held = claim(&store, session.worker(), pointer).await;
    let write = finish_of(&store, held, &Event::Succeed).await;
    let zombies = [
        lazy(session.worker(), pointer),
        Lease { epoch: held.epoch - 1, ..held },
        Lease { epoch: held.epoch + 1, ..held },
        Lease { claimed: false, ..held },
        Lease { job: JobId::new(), ..held },
    ];
    for lease in zombies {
        let finished = finish_as(&store, &Finish { lease, ..write.clone() }).await;
        assert_eq!(finished, Finished::Lost, "{lease:?}");
    }
    let claimed_on_queued = Lease { claimed: true, ..lazy(session.worker(), queue(&store, factory::job()).await) };
    assert_eq!(finish_as(&store, &Finish { lease: claimed_on_queued, ..write.clone() }).await, Finished::Lost);
    assert_eq!(read(&store, claimed_on_queued.job).await.state, State::Queued);
    assert_eq!(read(&store, held.job).await.state, State::Running, "nothing was written");
    assert_eq!(finish_as(&store, &write).await, APPLIED, "the lease still holds");
}

pub async fn finishes_are_answered_in_order(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointers = queue_all(&store, &factory::jobs(300)).await;
    let mut writes = Vec::new();
    for (n, pointer) in pointers.iter().enumerate() {
        let lease = lazy(session.worker(), *pointer);
        let transition = decided(&store, pointer.id, &Event::Succeed).await;
        let lease = if n % 3 == 0 { Lease { epoch: lease.epoch + 5, ..lease } } else { lease };
        let result = Some(factory::raw(&format!("{{\"n\": {n}}}")));
        writes.push(Finish { lease, transition, result, ran_for: Duration::ZERO, linked: false });
    }
    writes.reverse();
    let finished = store.finish(&writes).await.expect("written");
    assert_eq!(finished.len(), 300);
    for ((n, pointer), finished) in pointers.iter().enumerate().zip(finished.iter().rev()) {
        let job = read(&store, pointer.id).await;
        if n % 3 == 0 {
            assert_eq!((finished, job.state), (&Finished::Lost, State::Queued));
        } else {
            assert_eq!((finished, job.state), (&APPLIED, State::Succeeded));
            assert_eq!(job.result.expect("it succeeded").get(), format!("{{\"n\": {n}}}"), "each row its own result");
        }
    }
    assert!(store.finish(&[]).await.expect("written").is_empty());
}

pub async fn results_pass_through_byte_by_byte(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let megabyte = format!(r#"{{"text":"{}"}}"#, "fedcba9876543210".repeat(1 << 16));
    for document in [r#"{"b": 1,  "a": [1.0, 1e2], "text": "Grüße 🦀 \" \\ \n"}"#, "null", "[]", &megabyte] {
        let lease = running(&store, session.worker(), factory::job()).await;
        let write = finish_of(&store, lease, &Event::Succeed).await;
        let write = Finish { result: Some(factory::raw(document)), ..write };
        assert_eq!(finish_as(&store, &write).await, APPLIED);
        assert_eq!(read(&store, lease.job).await.result.expect("it succeeded").get(), document);
    }
}

/// A draining worker hands its job back: queued again, and no attempt is spent.
pub async fn a_released_job_is_queued_again(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let before = read(&store, lease.job).await;
    let released = finish(&store, lease, &Event::Release).await;
    let Finished::Applied(Some(pointer)) = released else { panic!("expected a pointer, not {released:?}") };
    assert_eq!((pointer.id, pointer.epoch), (lease.job, lease.epoch + 1));
    let job = read(&store, lease.job).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Queued, pointer.epoch, 0));
    assert_eq!(job.queued_at.expect("queued").timestamp_micros(), pointer.queued_at);
    assert!(job.queued_at > before.queued_at, "it queues anew");
    assert!(job.history.is_empty() && job.error.is_none());
    let other = join(&store).await;
    let granted = claim(&store, other.worker(), pointer).await;
    assert_eq!(finish(&store, granted, &Event::Succeed).await, APPLIED);
    assert_eq!(read(&store, lease.job).await.attempt, 1);
}

pub async fn a_snoozed_job_spends_no_attempt(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let delay = Duration::from_secs(600);
    for claimed in [true, false] {
        let pointer = queue(&store, factory::job()).await;
        let lease =
            if claimed { claim(&store, session.worker(), pointer).await } else { lazy(session.worker(), pointer) };
        assert_eq!(finish(&store, lease, &Event::Snooze(delay)).await, APPLIED);
        let job = read(&store, lease.job).await;
        assert_eq!((job.state, job.due, job.attempt), (State::Scheduled, false, 0));
        assert!(job.error.is_none() && job.history.is_empty());
        let wait = (job.run_at - job.created_at).as_seconds_f64();
        assert!((wait - delay.as_secs_f64()).abs() < 30.0, "due {wait} s later");
    }
}

/// Two workers ran the same lazy delivery; one of them wins.
pub async fn one_of_two_racing_finishes_counts(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    for _ in 0..20 {
        let pointer = queue(&here, factory::job()).await;
        let write = finish_of(&here, lazy(WorkerId::new(), pointer), &Event::Succeed).await;
        let answers = together((0..4).map(|n| {
            let store = if n % 2 == 0 { here.clone() } else { there.clone() };
            let own = lazy(WorkerId::new(), pointer);
            let write = Finish { lease: own, ..write.clone() };
            async move { (own.worker, finish_as(&store, &write).await) }
        }))
        .await;
        let winners: Vec<_> = answers.iter().filter(|(_, finished)| *finished == APPLIED).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        let job = read(&here, pointer.id).await;
        assert_eq!((job.worker, job.attempt), (Some(winners[0].0), 1));
        assert!(answers.iter().all(|(_, finished)| *finished == APPLIED || *finished == Finished::Lost));
    }
}

/// A worker that cannot run a kind gives the row back for later; rows that moved on are left alone.
pub async fn a_declined_job_is_scheduled_without_an_attempt(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let declined = queue(&store, factory::job()).await;
    let taken = queue(&store, factory::job()).await;
    let held = claim(&store, session.worker(), taken).await;
    let stale = Pointer { epoch: 99, ..queue(&store, factory::job()).await };
    store.decline(&[stale, taken, declined], Duration::from_secs(600)).await.expect("declined");
    let job = read(&store, declined.id).await;
    assert_eq!((job.state, job.due, job.epoch, job.attempt), (State::Scheduled, false, declined.epoch + 1, 0));
    assert!(job.run_at > job.created_at);
    let job = read(&store, taken.id).await;
    assert_eq!((job.state, job.epoch), (State::Running, held.epoch));
    assert_eq!(read(&store, stale.id).await.state, State::Queued);
}

/// Whatever comes late, a final row does not change.
pub async fn what_is_final_stays_as_it_is(db: &impl Database) {
    let store = db.store();
    let mut session = join(&store).await;
    let worker = session.worker();
    let mut ends = Vec::new();
    for event in [Event::Succeed, failing(Retry::Never), Event::Stopped] {
        let lease = running(&store, worker, factory::job()).await;
        if event == Event::Stopped {
            store.cancel(factory::TENANT, lease.job).await.expect("asked");
        }
        assert_eq!(finish(&store, lease, &event).await, APPLIED);
        ends.push(lease);
    }
    let snapshot_of = async || {
        let mut rows = Vec::new();
        for lease in &ends {
            rows.push(format!("{:?}", read(&store, lease.job).await));
        }
        rows
    };
    let before = snapshot_of().await;
    let helper = queue(&store, factory::job()).await;
    let write = finish_of(&store, lazy(worker, helper), &Event::Succeed).await;
    for lease in &ends {
        for epoch in lease.epoch - 1..=lease.epoch + 2 {
            let pointer = Pointer { id: lease.job, epoch, queued_at: 0 };
            assert!(store.claim(worker, &[claim_of(pointer)]).await.expect("claimed")[0].lease().is_none());
            assert!(session.claim(&[claim_of(pointer)]).await.expect("claimed")[0].lease().is_none());
            store.decline(&[pointer], Duration::ZERO).await.expect("declined");
            for claimed in [true, false] {
                let lease = Lease { epoch, claimed, nonce: Nonce::new(), ..*lease };
                assert_eq!(finish_as(&store, &Finish { lease, ..write.clone() }).await, Finished::Lost);
                let said = vec![factory::progress(1, 0.5, None), factory::line(2, "too late")];
                store.report(&[Report { lease, said }]).await.expect("reported");
            }
        }
        store.cancel(factory::TENANT, lease.job).await.expect("asked");
    }
    store.promote(1000, 1000).await.expect("promoted");
    store.steal(&steal_all(worker)).await.expect("stolen");
    session.leave().await.expect("left");
    store.reap(&IMPATIENT).await.expect("reaped");
    assert_eq!(snapshot_of().await, before);
}
