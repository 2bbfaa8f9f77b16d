//! Auditing fires: jobs that are gone or one too many, and schedules that are passed over.

use crate::audit::Plan;
use crate::job::{FiredBy, JobId, NewJob};
use crate::schedule::{BatchTemplate, Definition, Submitted, Template};
use crate::testing::factory;

use super::Database;
use super::scheduling::{due, fire, get};
use super::steps::{accept, audit, found_by, join, notes_of, plan};

pub async fn a_fire_whose_job_is_gone_is_found(db: &impl Database) {
    let store = db.store();
    due(db, "gone", 3, factory::definition()).await;
    let job = fire(&store).await.submitted[0];
    let clean = audit(db, plan()).await;
    assert!(clean.is_clean(), "{:#?}", clean.reports);
    let (jobs, id) = (db.dialect().jobs(), db.dialect().id(job));
    db.tamper(format!("DELETE FROM {jobs} WHERE id = {id}")).await;
    assert_eq!(found_by(&audit(db, plan()).await, "fires"), [job]);
}

pub async fn a_fire_whose_batch_is_gone_or_doubled_is_found(db: &impl Database) {
    let store = db.store();
    let job = factory::template();
    let batch = BatchTemplate { jobs: vec![job; 2], follow_up: None, callback: None, metadata: None };
    let definition = Definition { template: Template::Batch { batch }, ..factory::definition() };
    let made = due(db, "batch", 0, definition).await;
    let jobs = fire(&store).await.submitted;
    let clean = audit(db, plan()).await;
    assert!(clean.is_clean(), "{:#?}", clean.reports);
    let schedule = get(&store, made.id).await;
    let batch = schedule.last.and_then(Submitted::batch).expect("a batch");
    let at = schedule.last_fire_at.expect("it fired");
    let alone = accept(&store, NewJob { fired_by: Some(FiredBy { schedule: made.id, at }), ..factory::job() }).await;
    assert_eq!(found_by(&audit(db, plan()).await, "fires"), [alone]);
    let dialect = db.dialect();
    for id in jobs.into_iter().chain([alone]) {
        db.tamper(format!("DELETE FROM {} WHERE id = {}", dialect.jobs(), dialect.id(id))).await;
    }
    db.tamper(format!("DELETE FROM {} WHERE id = {}", dialect.batches(), dialect.id(JobId(batch.0)))).await;
    let outcome = audit(db, plan()).await;
    let fires = outcome.reports.iter().find(|report| report.check == "fires").expect("it was checked");
    let [finding] = &fires.findings[..] else { panic!("expected one finding, not {:#?}", fires.findings) };
    assert!(finding.problem.contains(&format!("batch {batch} is gone")), "{finding:?}");
}

pub async fn jobs_that_share_a_fire_are_found(db: &impl Database) {
    let store = db.store();
    let made = due(db, "shared", 0, factory::definition()).await;
    let first = fire(&store).await.submitted[0];
    let at = get(&store, made.id).await.last_fire_at.expect("it fired");
    let second = NewJob { fired_by: Some(FiredBy { schedule: made.id, at }), ..factory::job() };
    let second = accept(&store, second).await;
    assert_eq!(found_by(&audit(db, plan()).await, "fires"), [first, second]);
}

pub async fn a_job_of_a_fire_that_was_never_recorded_is_found(db: &impl Database) {
    let store = db.store();
    let made = due(db, "unrecorded", 0, factory::definition()).await;
    let job = fire(&store).await.submitted[0];
    let (fires, id) = (db.dialect().fires(), db.dialect().id(JobId(made.id.0)));
    db.tamper(format!("DELETE FROM {fires} WHERE schedule_id = {id}")).await;
    assert_eq!(found_by(&audit(db, plan()).await, "fires"), [job]);
}

pub async fn a_schedule_that_is_passed_over_is_found(db: &impl Database) {
    let store = db.store();
    due(db, "late", 3, factory::definition()).await;
    let impatient = || Plan { overdue: std::time::Duration::from_secs(600), ..plan() };
    let alone = audit(db, impatient()).await;
    assert!(alone.is_clean() && notes_of(&alone, "fires").contains("no live worker"), "{:#?}", alone.reports);
    let _session = join(&store).await;
    let outcome = audit(db, impatient()).await;
    let wrong: Vec<_> = outcome.reports.iter().filter(|report| !report.is_clean()).collect();
    assert!(wrong.len() == 1 && wrong[0].check == "fires", "{wrong:#?}");
    assert!(wrong[0].findings[0].problem.contains("\"late\""), "{wrong:#?}");
    fire(&store).await;
    assert!(audit(db, impatient()).await.is_clean());
}
