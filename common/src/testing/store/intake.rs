//! Accepting, and reading back what was accepted.

use std::time::Duration;

use chrono::TimeDelta;

use super::Database;
use super::steps::{accept, join, queue, queue_all, read, steal_all};
use crate::clock;
use crate::job::{FiredBy, JobId, Lane, NewJob, Priority, ScheduleId, State};
use crate::retry::RetryPolicy;
use crate::store::{Accepted, Error};
use crate::testing::factory::{self, TENANT};

pub async fn a_job_reads_back_as_it_was_accepted(db: &impl Database) {
    let store = db.store();
    let new = NewJob {
        kind: "image.transform".to_owned(),
        lane: Lane { queue: "bulk".to_owned(), priority: Priority::High },
        metadata: Some(factory::raw(r#"{"user": 7}"#)),
        tags: vec!["a".to_owned(), "b c".to_owned()],
        max_attempts: 3,
        timeout: Duration::from_secs(90),
        retry_policy: RetryPolicy { first_seconds: 2.5, factor: 3.0, max_seconds: 60.0, jitter: 0.0 },
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        retry_of: Some(JobId::new()),
        fired_by: Some(FiredBy { schedule: ScheduleId::new(), at: clock::now() }),
        ..factory::job()
    };
    let accepted = store.accept(std::slice::from_ref(&new)).await.expect("accepted");
    let [Accepted::New { created_at, run_at, state, dispatch: Some(dispatch), replaced: None }] = &accepted[..] else {
        panic!("expected one new job, not {accepted:?}")
    };
    assert_eq!(*state, State::Queued);
    assert_eq!(dispatch.lane, new.lane);
    assert_eq!(dispatch.pointer.id, new.id);
    assert_eq!(dispatch.traceparent, new.traceparent);

    let job = read(&store, new.id).await;
    assert_eq!((job.tenant.as_str(), job.kind.as_str(), &job.lane), (TENANT, "image.transform", &new.lane));
    assert_eq!((job.state, job.visible_state(), job.due), (State::Queued, State::Queued, true));
    assert_eq!((job.epoch, job.attempt, job.losses), (dispatch.pointer.epoch, 0, 0));
    assert_eq!((job.max_attempts, job.timeout), (3, Duration::from_secs(90)));
    assert_eq!((job.created_at, job.run_at), (*created_at, *run_at));
    assert_eq!(job.queued_at.expect("it is queued").timestamp_micros(), dispatch.pointer.queued_at);
    assert_eq!(job.payload.get(), new.payload.get());
    assert_eq!(job.metadata.expect("given").get(), r#"{"user": 7}"#);
    assert_eq!((job.tags, job.retry_of), (new.tags, new.retry_of));
    assert!(!job.cancel_requested);
    assert_eq!((job.progress, job.error, job.history.len()), (None, None, 0));
    assert_eq!((job.started_at, job.finished_at, job.worker), (None, None, None));
    assert!(job.result.is_none() && job.batch_id.is_none());
    let fired_by = job.schedule_id.map(ScheduleId).zip(job.fire_at);
    assert_eq!(fired_by.map(|(schedule, at)| FiredBy { schedule, at }), new.fired_by);

    let fetched = store.fetch(&[new.id]).await.expect("fetched");
    let candidate = fetched[0].as_ref().expect("the row is there");
    assert_eq!((candidate.id, &candidate.lane, candidate.epoch), (new.id, &new.lane, job.epoch));
    assert_eq!((candidate.state, candidate.attempt, candidate.max_attempts), (State::Queued, 0, 3));
    assert_eq!((candidate.timeout, candidate.retry_policy), (new.timeout, new.retry_policy));
    assert_eq!((&candidate.kind, &candidate.tenant), (&new.kind, &new.tenant));
    assert_eq!(candidate.payload.get(), new.payload.get());
    assert_eq!(candidate.traceparent, new.traceparent);
    assert_eq!((candidate.created_at, Some(candidate.queued_at)), (job.created_at, job.queued_at));
}

pub async fn a_missing_job_is_none(db: &impl Database) {
    let store = db.store();
    let there = queue(&store, factory::job()).await.id;
    let missing = JobId::new();
    assert!(store.job(TENANT, missing).await.expect("read").is_none());
    assert!(store.cancel(TENANT, missing).await.expect("read").is_none());
    let fetched = store.fetch(&[missing, there, missing]).await.expect("fetched");
    assert_eq!(fetched.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert!(store.fetch(&[]).await.expect("fetched").is_empty());
    assert!(store.accept(&[]).await.expect("accepted").is_empty());
}

pub async fn one_tenant_does_not_see_the_other(db: &impl Database) {
    let store = db.store();
    let id = queue(&store, factory::job()).await.id;
    assert!(store.job("other", id).await.expect("read").is_none());
    assert!(store.cancel("other", id).await.expect("read").is_none());
    let filter = crate::store::JobFilter { tenant: "other".to_owned(), ..factory::filter() };
    assert!(store.jobs(&filter).await.expect("listed").is_empty());
    assert_eq!(read(&store, id).await.state, State::Queued);
}

pub async fn a_job_due_now_or_before_is_queued(db: &impl Database) {
    let store = db.store();
    let past = NewJob { run_at: Some(clock::now() - TimeDelta::hours(1)), ..factory::job() };
    let no_delay = NewJob { delay: Some(Duration::ZERO), ..factory::job() };
    for new in [factory::job(), past, no_delay] {
        let id = new.id;
        queue(&store, new).await;
        let job = read(&store, id).await;
        assert_eq!((job.state, job.due), (State::Queued, true));
        assert_eq!(job.run_at, job.created_at, "a time in the past is now");
    }
}

pub async fn a_job_due_later_is_scheduled(db: &impl Database) {
    let store = db.store();
    let later = clock::now() + TimeDelta::hours(1);
    let new = NewJob { run_at: Some(later), ..factory::job() };
    let accepted = store.accept(std::slice::from_ref(&new)).await.expect("accepted");
    assert!(matches!(accepted[..], [Accepted::New { state: State::Scheduled, dispatch: None, .. }]), "{accepted:?}");
    let job = read(&store, new.id).await;
    assert_eq!((job.state, job.visible_state(), job.due), (State::Scheduled, State::Scheduled, false));
    assert_eq!((job.run_at, job.queued_at), (later, None));
}

pub async fn a_delay_counts_by_the_stores_clock(db: &impl Database) {
    let store = db.store();
    let delay = Duration::from_millis(90_500);
    let id = accept(&store, NewJob { delay: Some(delay), ..factory::job() }).await;
    let job = read(&store, id).await;
    assert_eq!(job.state, State::Scheduled);
    assert_eq!((job.run_at - job.created_at).to_std().expect("later"), delay);
}

pub async fn a_job_that_is_not_admitted_waits_and_looks_queued(db: &impl Database) {
    let store = db.store();
    let new = NewJob { admit: false, ..factory::job() };
    let accepted = store.accept(std::slice::from_ref(&new)).await.expect("accepted");
    assert!(matches!(accepted[..], [Accepted::New { state: State::Scheduled, dispatch: None, .. }]), "{accepted:?}");
    let job = read(&store, new.id).await;
    assert_eq!((job.state, job.visible_state(), job.due), (State::Scheduled, State::Queued, true));
}

pub async fn a_thousand_jobs_are_accepted_in_order(db: &impl Database) {
    let store = db.store();
    let new = factory::jobs(1000);
    let pointers = queue_all(&store, &new).await;
    let ids: Vec<_> = new.iter().map(|job| job.id).collect();
    assert_eq!(pointers.iter().map(|pointer| pointer.id).collect::<Vec<_>>(), ids);
    assert!(pointers.is_sorted_by_key(|pointer| pointer.queued_at), "queued in the order of acceptance");
    let fetched = store.fetch(&ids).await.expect("fetched");
    assert_eq!(fetched.into_iter().map(|row| row.expect("there").id).collect::<Vec<_>>(), ids);
}

/// Many batches within one second, and rows within one microsecond: the order of acceptance survives.
pub async fn queueing_order_holds_below_a_second(db: &impl Database) {
    let store = db.store();
    let mut pointers = Vec::new();
    for _ in 0..20 {
        pointers.extend(queue_all(&store, &factory::jobs(5)).await);
    }
    assert!(pointers.is_sorted_by_key(|pointer| pointer.queued_at));
    let session = join(&store).await;
    let mut taken = Vec::new();
    for _ in 0..10 {
        let page =
            store.steal(&crate::store::Steal { limit: 10, ..steal_all(session.worker()) }).await.expect("stolen");
        taken.extend(page.into_iter().map(|(candidate, _)| candidate.id));
    }
    assert_eq!(taken, pointers.iter().map(|pointer| pointer.id).collect::<Vec<_>>());
}

pub async fn a_refused_row_writes_none_of_its_batch(db: &impl Database) {
    let store = db.store();
    let taken = queue(&store, factory::job()).await.id;
    let keyed = NewJob { idempotency: factory::idempotency("key", 1), ..factory::job() };
    let batch = vec![keyed.clone(), NewJob { id: taken, ..factory::job() }, factory::job()];
    let refused = store.accept(&batch).await;
    assert!(matches!(refused, Err(Error::Rejected(_))), "an id is taken once: {refused:?}");
    assert!(store.job(TENANT, batch[0].id).await.expect("read").is_none());
    assert!(store.job(TENANT, batch[2].id).await.expect("read").is_none());
    let accepted = store.accept(&[keyed]).await.expect("accepted");
    assert!(matches!(accepted[..], [Accepted::New { .. }]), "its key was not written either: {accepted:?}");
}

pub async fn json_passes_through_byte_by_byte(db: &impl Database) {
    let store = db.store();
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let megabyte = format!(r#"{{"text": "{}"}}"#, "0123456789abcdef".repeat(1 << 16));
    let documents = [
        r#"{"b": 1,  "a": [ 1.0, 1e2, -0.0, 12345678901234567890.123456789 ], "b": 2}"#,
        r#"{"quotes": "\"'`$$ %s {} \\ ; DROP TABLE jobs; --", "escaped": "\u00e9\u20ac\ud83d\ude00"}"#,
        r#"{"unicode": "Grüße 世界 🦀 \t end", "empty": "", "": null}"#,
        "null",
        "\"text\"",
        " [ ] ",
        &deep,
        &megabyte,
    ];
    for document in documents {
        let document = document.trim();
        let new = NewJob {
            payload: factory::raw(document),
            metadata: Some(factory::raw(document)),
            tags: vec!["größe 'x' \"y\"".to_owned()],
            ..factory::job()
        };
        queue(&store, new.clone()).await;
        let job = read(&store, new.id).await;
        assert_eq!(job.payload.get(), document);
        assert_eq!(job.metadata.expect("given").get(), document);
        assert_eq!(job.tags, new.tags);
        let fetched = store.fetch(&[new.id]).await.expect("fetched");
        assert_eq!(fetched[0].as_ref().expect("there").payload.get(), document);
    }
}
