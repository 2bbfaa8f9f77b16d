//! Auditing what runs and what waits: leases that nobody holds, jobs that are late without a reason.

use std::time::Duration;

use super::Database;
use super::steps::{
    Shared, accept, audit, found_by, join, notes_of, orphaned, plan, queue, queued_after_losses, reap, running,
};
use crate::audit::Plan;
use crate::job::{JobId, NewJob};
use crate::store::{Session, WorkerInfo};
use crate::testing::factory;

/// A plan by which a minute is late.
fn hasty() -> Plan {
    Plan { overdue: Duration::from_secs(60), ..plan() }
}

/// Puts a time of a job back by this much.
async fn put_back(db: &impl Database, id: JobId, column: &str, seconds: i64) {
    let (jobs, then, id) = (db.dialect().jobs(), db.dialect().in_seconds(-seconds), db.dialect().id(id));
    db.tamper(format!("UPDATE {jobs} SET {column} = {then} WHERE id = {id}")).await;
}

/// A job that has been queued for two minutes.
async fn queued_late(db: &impl Database, job: NewJob) -> JobId {
    let id = queue(&db.store(), job).await.id;
    put_back(db, id, "queued_at", 120).await;
    id
}

/// A job that has been due for two minutes.
async fn due_late(db: &impl Database, job: NewJob) -> JobId {
    let id = accept(&db.store(), NewJob { admit: false, ..job }).await;
    put_back(db, id, "run_at", 120).await;
    id
}

async fn join_with(store: &Shared, slots: u32) -> Box<dyn Session> {
    store.join(&WorkerInfo { slots, ..factory::worker(&[factory::KIND]) }).await.expect("joined")
}

pub async fn a_lease_of_no_worker_is_found(db: &impl Database) {
    let store = db.store();
    let live = join(&store).await;
    running(&store, live.worker(), factory::job()).await;
    let mut lost = vec![orphaned(&store, factory::job()).await.job];
    let (jobs, stranger) = (db.dialect().jobs(), db.dialect().id(JobId::new()));
    let taken = running(&store, live.worker(), factory::job()).await.job;
    db.tamper(format!("UPDATE {jobs} SET worker_id = {stranger} WHERE id = {}", db.dialect().id(taken))).await;
    lost.push(taken);
    let outcome = audit(db, plan()).await;
    assert_eq!(found_by(&outcome, "leases"), lost);
    reap(&store).await;
    assert!(audit(db, plan()).await.is_clean());
}

pub async fn leases_that_nobody_could_take_back_are_noted(db: &impl Database) {
    let store = db.store();
    orphaned(&store, factory::job()).await;
    let outcome = audit(db, plan()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert!(notes_of(&outcome, "leases").contains("no live worker takes them back"));
}

/// What is put right while it is watched was in good order.
pub async fn a_lease_that_is_taken_back_in_time_is_none_to_find(db: &impl Database) {
    let store = db.store();
    let _live = join(&store).await;
    orphaned(&store, factory::job()).await;
    let patient = Plan { watch: Duration::from_secs(3600), ..plan() };
    let (outcome, _) = tokio::join!(audit(db, patient), reap(&store));
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
}

pub async fn two_jobs_of_one_run_are_found(db: &impl Database) {
    let store = db.store();
    let live = join(&store).await;
    let mut twins = Vec::new();
    for _ in 0..2 {
        twins.push(running(&store, live.worker(), factory::job()).await.job);
    }
    running(&store, live.worker(), factory::job()).await;
    assert!(audit(db, plan()).await.is_clean());
    let (jobs, [a, b]) = (db.dialect().jobs(), [twins[0], twins[1]].map(|id| db.dialect().id(id)));
    db.tamper(format!("UPDATE {jobs} SET run_nonce = (SELECT run_nonce FROM {jobs} WHERE id = {a}) WHERE id = {b}"))
        .await;
    assert_eq!(found_by(&audit(db, plan()).await, "leases"), twins);
}

pub async fn more_leases_than_slots_are_found(db: &impl Database) {
    let store = db.store();
    let small = join_with(&store, 2).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(running(&store, small.worker(), factory::job()).await.job);
    }
    assert!(audit(db, plan()).await.is_clean());
    held.push(running(&store, small.worker(), factory::job()).await.job);
    assert_eq!(found_by(&audit(db, plan()).await, "leases"), held);
}

pub async fn a_queued_job_that_a_worker_could_run_is_overdue(db: &impl Database) {
    let store = db.store();
    let _live = join(&store).await;
    queue(&store, factory::job()).await;
    let late = queued_late(db, factory::job()).await;
    assert!(audit(db, plan()).await.is_clean(), "an hour has not passed");
    assert_eq!(found_by(&audit(db, hasty()).await, "overdue"), [late]);
}

pub async fn a_queued_job_may_have_a_reason_to_wait(db: &impl Database) {
    let store = db.store();
    let noted = async |reason: &str| {
        let outcome = audit(db, hasty()).await;
        assert!(outcome.is_clean(), "{reason}: {:#?}", outcome.reports);
        let notes = notes_of(&outcome, "overdue");
        assert!(notes.contains(reason), "{reason} is not in {notes}");
    };
    let late = queued_late(db, factory::job()).await;
    noted("no live worker serves the queue and offers the kind").await;

    let elsewhere = WorkerInfo { queues: vec!["other".into()], ..factory::worker(&[factory::KIND]) };
    let _elsewhere = store.join(&elsewhere).await.expect("joined");
    let _otherwise = store.join(&factory::worker(&["other.kind"])).await.expect("joined");
    noted("no live worker serves the queue and offers the kind").await;

    let small = join_with(&store, 1).await;
    assert_eq!(found_by(&audit(db, hasty()).await, "overdue"), [late]);
    running(&store, small.worker(), factory::job()).await;
    noted("all slots of the workers that could run them are taken").await;
}

/// A job that may be what kills workers waits while another of those runs.
pub async fn suspects_take_turns(db: &impl Database) {
    let store = db.store();
    let live = join(&store).await;
    let one = queued_after_losses(&store, 2).await;
    let other = queued_after_losses(&store, 2).await;
    super::steps::claim(&store, live.worker(), one).await;
    put_back(db, other.id, "queued_at", 120).await;
    let outcome = audit(db, hasty()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert!(notes_of(&outcome, "overdue").contains("a process runs one such job at a time"));
    let another = join(&store).await;
    assert_eq!(found_by(&audit(db, hasty()).await, "overdue"), [other.id]);
    drop(another);
}

pub async fn a_due_job_whose_lane_has_room_is_overdue(db: &impl Database) {
    let store = db.store();
    let late = due_late(db, factory::job()).await;
    accept(&store, NewJob { delay: Some(Duration::from_secs(60)), ..factory::job() }).await;
    let outcome = audit(db, hasty()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert!(notes_of(&outcome, "overdue").contains("no live worker offers the kind"));
    let _live = join(&store).await;
    assert!(audit(db, plan()).await.is_clean(), "an hour has not passed");
    assert_eq!(found_by(&audit(db, hasty()).await, "overdue"), [late]);
    queue(&store, factory::job()).await;
    let outcome = audit(db, Plan { window: 1, ..hasty() }).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
    assert!(notes_of(&outcome, "overdue").contains("their lane is full"));
}
