//! Auditing rows: a clean life raises nothing, and every contradiction in a row is found.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agreement::{SITUATIONS, events, happen, make};
use super::steps::{Shared, accept, all_final, audit, join, plan, queue_all, read, together};
use super::{Database, turmoil};
use crate::audit::{self, Plan, Record};
use crate::job::{JobId, State};
use crate::store::{Session, WorkerInfo};
use crate::testing::factory;

/// A worker that can hold whatever the cases leave running.
async fn join_roomy(store: &Shared) -> Box<dyn Session> {
    let roomy = WorkerInfo { slots: 1000, ..factory::worker(&[factory::KIND]) };
    store.join(&roomy).await.expect("joined")
}

/// Everything that can happen to a job in any situation.
pub async fn a_clean_life_raises_nothing(db: &impl Database) {
    let store = db.store();
    let mut session = join_roomy(&store).await;
    let (mut record, mut jobs) = (Record::default(), 0);
    for _ in 0..2 {
        for situation in SITUATIONS {
            for event in events() {
                let id = make(&store, session.worker(), situation).await;
                let before = read(&store, id).await;
                session = match happen(&store, session, &before, &event).await {
                    Some(session) => session,
                    None => join_roomy(&store).await,
                };
                // Its parents are jobs, too.
                jobs += 1 + before.parents.map_or(0, |parents| parents.first.len());
            }
        }
        let outcome = audit(db, Plan { record: Some(record), ..plan() }).await;
        assert!(outcome.is_clean(), "{:#?}", outcome.reports);
        record = outcome.record.expect("it was asked for");
        assert_eq!(record.len(), jobs, "every job was seen");
    }
}

/// While jobs race through their lives, whatever an audit sees of them is right.
pub async fn a_moving_database_raises_nothing(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let _session = join(&here).await;
    let jobs: Vec<_> = queue_all(&here, &factory::jobs(60)).await.iter().map(|pointer| pointer.id).collect();
    let racing = together((0..4).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        let jobs = jobs.clone();
        async move {
            turmoil::misbehave(store, jobs).await;
        }
    }));
    let auditing = async {
        let mut record = Record::default();
        let mut audits = 0;
        while audits == 0 || !all_final(&here, &jobs).await {
            // The workers leave with what they run; whether that is taken back in time is not what this is about.
            let patient = Plan { record: Some(record), watch: Duration::ZERO, ..plan() };
            let outcome = audit(db, patient).await;
            let wrong = outcome.reports.iter().filter(|report| report.check != "leases" && !report.is_clean());
            assert_eq!(wrong.count(), 0, "{:#?}", outcome.reports);
            record = outcome.record.expect("it was asked for");
            audits += 1;
        }
    };
    tokio::join!(racing, auditing);
}

/// What is done to a row, and a part of what the auditor says.
const CORRUPTIONS: [(&str, &str, &str); 43] = [
    ("queued", "epoch = 0", "queued at epoch 0"),
    ("running", "epoch = 1", "running at epoch 1"),
    ("succeeded", "epoch = 1", "succeeded at epoch 1"),
    ("queued", "max_attempts = 0", "max_attempts is 0"),
    ("queued", "attempt = -1", "attempt -1 of at most 5"),
    ("running", "attempt = 6", "attempt 6 of at most 5"),
    ("failed", "attempt = 6", "attempt 6 of at most 5"),
    ("running", "attempt = 0", "running without an attempt"),
    ("succeeded", "attempt = 0", "succeeded without an attempt"),
    ("queued after a failure", "max_attempts = 1", "queued with all of its 1 attempts spent"),
    ("scheduled after a failure", "max_attempts = 1", "scheduled with all of its 1 attempts spent"),
    ("queued", "losses = -1", "-1 lost workers"),
    ("running", "losses = 4", "4 lost workers of at most 3"),
    ("running", "losses = 3", "running after 3 lost workers"),
    ("succeeded", "losses = 3", "succeeded after 3 lost workers"),
    ("queued", "cancel_requested = true", "queued with a wish to cancel"),
    ("scheduled", "cancel_requested = true", "scheduled with a wish to cancel"),
    ("running", "worker_id = NULL", "running after a run, without a worker"),
    ("succeeded", "worker_id = NULL", "succeeded after a run, without a worker"),
    ("queued after a loss", "worker_id = NULL", "queued after a run, without a worker"),
    ("running", "started_at = NULL", "without started_at"),
    ("failed", "started_at = NULL", "without started_at"),
    ("queued", "queued_at = NULL", "queued without queued_at"),
    ("running", "queued_at = NULL", "running without queued_at"),
    ("running", "run_nonce = NULL", "running without the nonce"),
    ("succeeded", "run_nonce = NULL", "succeeded without the nonce"),
    ("running", "finished_at = NOW", "running, which is not final, with finished_at"),
    ("scheduled", "finished_at = NOW", "scheduled, which is not final, with finished_at"),
    ("cancelled", "finished_at = NULL", "cancelled, which is final, without finished_at"),
    ("failed", "finished_at = NULL", "failed, which is final, without finished_at"),
    ("succeeded", "result = NULL", "succeeded without a result"),
    ("failed", "result = '1'", "failed with a result"),
    ("queued", "result = '1'", "queued with a result"),
    ("succeeded", "created_at = TOMORROW", "created_at lies in the future"),
    ("succeeded", "finished_at = YESTERDAY", "finished_at lies before created_at"),
    ("running", "started_at = TOMORROW", "started_at lies in the future"),
    ("running", "started_at = YESTERDAY", "started_at lies before created_at"),
    ("cancelled", "finished_at = TOMORROW", "finished_at lies in the future"),
    ("failed", "history = '[]'", "failed in attempt 1 with 0 failed attempts"),
    ("queued", "history = '[{}]'", "queued in attempt 0 with 1 failed attempts"),
    ("scheduled after a failure", "history = '[{}, {}]'", "scheduled in attempt 1 with 2 failed attempts"),
    ("running", "history = '{}'", "its history is not a list"),
    ("running", "state = 'succeeded'", "succeeded, which is final, without finished_at"),
];

pub async fn every_contradiction_in_a_row_is_found(db: &impl Database) {
    let store = db.store();
    let dialect = db.dialect();
    db.tamper(dialect.lift_constraints().to_owned()).await;
    let session = join_roomy(&store).await;
    let mut expected = BTreeMap::new();
    for (situation, change, problem) in CORRUPTIONS {
        let id = make(&store, session.worker(), situation).await;
        let change = change
            .replace("YESTERDAY", &dialect.in_seconds(-86_400))
            .replace("TOMORROW", &dialect.in_seconds(86_400))
            .replace("NOW", &dialect.in_seconds(0));
        let (jobs, victim) = (dialect.jobs(), dialect.id(id));
        db.tamper(format!("UPDATE {jobs} SET {change} WHERE id = {victim}")).await;
        expected.insert(id, (situation, problem));
        // One that is as it should be stands beside each.
        make(&store, session.worker(), situation).await;
    }
    let outcome = audit(db, plan()).await;
    for report in &outcome.reports {
        if report.check != "rows" {
            assert!(report.is_clean(), "{report:#?}");
            continue;
        }
        assert_eq!(report.looked_at, 2 * CORRUPTIONS.len() as u64);
        for finding in &report.findings {
            let [id] = finding.jobs[..] else { panic!("one job each: {finding:?}") };
            let (situation, problem) =
                expected.remove(&id).unwrap_or_else(|| panic!("it is as it should be: {finding:?}"));
            assert!(finding.problem.contains(problem), "{situation}: {problem} is not in {}", finding.problem);
        }
    }
    assert!(expected.is_empty(), "not found: {expected:?}");
}

/// One finding for what stands there twice, which nothing but the key could keep out.
pub async fn a_missing_primary_key_is_found(db: &impl Database) {
    let store = db.store();
    accept(&store, factory::job()).await;
    assert!(audit(db, plan()).await.is_clean());
    db.tamper(db.dialect().drop_primary_key().to_owned()).await;
    let outcome = audit(db, plan()).await;
    let wrong: Vec<_> = outcome.reports.iter().filter(|report| !report.is_clean()).collect();
    assert_eq!(wrong.iter().map(|report| report.check).collect::<Vec<_>>(), ["ids"], "{wrong:#?}");
}

/// More jobs than a page holds, of which the last is wrong.
pub async fn pages_leave_nobody_out(db: &impl Database) {
    let store = db.store();
    let mut last: Option<JobId> = None;
    for _ in 0..11 {
        last = queue_all(&store, &factory::jobs(500)).await.last().map(|pointer| pointer.id);
    }
    let last = last.expect("there are some");
    let (jobs, id) = (db.dialect().jobs(), db.dialect().id(last));
    db.tamper(format!("UPDATE {jobs} SET epoch = 0 WHERE id = {id}")).await;
    let outcome = audit::run(&*db.audit().await, plan()).await.expect("audited");
    assert_eq!(outcome.reports[0].looked_at, 5500);
    assert_eq!(outcome.reports[0].findings[0].jobs, [last]);
    assert_eq!(read(&store, last).await.state, State::Queued, "nothing was repaired");
}
