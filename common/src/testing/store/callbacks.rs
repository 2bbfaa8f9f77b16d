//! Callbacks: one job for each end that is asked for, in the transaction of that end, whoever writes it.

use std::time::Duration;

use serde_json::Value;

use super::Database;
use super::batches::fill;
use super::scheduling::{due, fire};
use super::steps::{
    KEEP_NOTHING, Shared, accept, audit, claim, claim_and_leave, failing, finish, finish_as, finish_of, found_by, join,
    lazy, plan, promoted, queue, read, reap, together,
};
use crate::callback::{Callback, Event as End, KIND, MAX_ATTEMPTS, Payload, Secret};
use crate::job::transition::{Event, Retry};
use crate::job::{BatchId, Job, JobId, NewJob, Priority, State};
use crate::schedule::{JobTemplate, Template};
use crate::store::{Accepted, Cancelled, Filled, Filling, Finish, JobFilter, NewBatch, Ran, Target};
use crate::testing::factory::{self, TENANT};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn callback(events: &[End]) -> Option<Callback> {
    let secret = Secret::try_from(SECRET.to_owned()).expect("a secret");
    Some(Callback { url: "https://example.com/hook".to_owned(), events: events.to_vec(), secret: Some(secret) })
}

fn job() -> NewJob {
    NewJob { callback: callback(&End::OF_JOBS), ..factory::job() }
}

/// The jobs that tell of ends.
async fn told(store: &Shared) -> Vec<Job> {
    let kind = Some(KIND.to_owned());
    store.jobs(&JobFilter { kind, ..factory::filter() }).await.expect("listed")
}

/// What one of them says.
fn said(job: &Job) -> (JobId, Value) {
    let payload: Payload = serde_json::from_str(job.payload.get()).expect("a payload of the kind");
    assert_eq!(payload.url, "https://example.com/hook");
    (JobId(payload.subject), serde_json::from_str(payload.body.get()).expect("JSON"))
}

/// A lazy end, a claimed one, a handler's commit, a client, a reaper. An attempt that another follows is no end.
pub async fn every_way_to_an_end_is_told_of_once(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let retried = queue(&store, job()).await;
    finish(&store, lazy(worker, retried), &failing(Retry::After(Duration::from_secs(600)))).await;
    let mut ended = Vec::new();

    ended.push((queue(&store, job()).await, "job.succeeded"));
    let write = finish_of(&store, lazy(worker, ended[0].0), &Event::Succeed).await;
    for linked in [false, true, false] {
        finish_as(&store, &Finish { linked, ..write.clone() }).await;
    }
    ended.push((queue(&store, NewJob { tags: vec!["t".into()], ..job() }).await, "job.failed"));
    let lease = claim(&store, worker, ended[1].0).await;
    finish(&store, lease, &failing(Retry::Never)).await;
    ended.push((queue(&store, job()).await, "job.succeeded"));
    let lease = claim(&store, worker, ended[2].0).await;
    let transaction = store.begin(&lease).await.expect("begun");
    let write = finish_of(&store, lease, &Event::Succeed).await;
    transaction.finish(&write).await.expect("finished");
    ended.push((queue(&store, job()).await, "job.cancelled"));
    for _ in 0..2 {
        assert_eq!(store.cancel(TENANT, ended[3].0.id).await.expect("asked"), Some(Cancelled::Now));
    }
    ended.push((queue(&store, NewJob { max_attempts: 1, ..job() }).await, "job.failed"));
    claim_and_leave(&store, ended[4].0).await;
    reap(&store).await;

    let told = told(&store).await;
    assert_eq!(told.len(), ended.len(), "{told:#?}");
    for (pointer, event) in &ended {
        let found: Vec<_> = told.iter().map(|job| (job, said(job))).filter(|(_, (of, _))| *of == pointer.id).collect();
        let [(job, (_, body))] = &found[..] else { panic!("{event} is told of once: {found:#?}") };
        let of = read(&store, pointer.id).await;
        assert_eq!((&body["type"], &body["data"]["id"]), (&Value::from(*event), &Value::from(of.id.to_string())));
        assert_eq!(body["data"]["state"], of.state.as_str());
        assert_eq!(body["data"]["result"].is_null(), of.result.is_none());
        assert_eq!(body["data"]["error"]["code"].as_str(), of.error.as_ref().map(|error| error.code.as_str()));
        assert_eq!(body["timestamp"], serde_json::json!(of.finished_at));
        assert_eq!((job.state, job.lane.priority, job.max_attempts), (State::Scheduled, Priority::High, MAX_ATTEMPTS));
        assert_eq!(job.tags, [format!("job:{}", of.id)]);
        assert_eq!((job.batch_id, store.callback(TENANT, job.id.0).await.expect("read")), (None, None));
        assert!(!job.payload.get().contains(&SECRET[6..]), "the secret stays apart");
        assert_eq!(store.callback(TENANT, of.id.0).await.expect("read"), callback(&End::OF_JOBS));
    }
    assert_eq!(store.callback("another", ended[0].0.id.0).await.expect("read"), None);
    assert_eq!(found_by(&audit(db, plan()).await, "callbacks"), []);
}

pub async fn the_job_of_a_fire_is_told_of(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let mut definition = factory::definition();
    let job = JobTemplate { callback: callback(&End::OF_JOBS), ..factory::template() };
    definition.template = Template::Job(job);
    let made = due(db, "told", 0, definition).await;
    let job = fire(&store).await.submitted[0];
    let lease = claim(&store, session.worker(), promoted(&store, job).await).await;
    finish(&store, lease, &Event::Succeed).await;
    let ran = store.run_schedule(TENANT, made.id, None, None).await.expect("asked");
    let Some(Ran::Job(run, _)) = ran else { panic!("expected a job, not {ran:?}") };
    store.cancel(TENANT, run).await.expect("cancelled");
    let told = told(&store).await;
    let said: Vec<_> = told.iter().map(|job| (said(job).0, said(job).1["type"].clone())).collect();
    assert_eq!(said, [(run, "job.cancelled".into()), (job, "job.succeeded".into())]);
    let outcome = audit(db, plan()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
}

pub async fn only_ends_that_are_asked_for_are_told_of(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let asking = || NewJob { callback: callback(&[End::JobFailed]), ..factory::job() };
    let quiet = queue(&store, asking()).await;
    finish(&store, lazy(session.worker(), quiet), &Event::Succeed).await;
    let loud = queue(&store, asking()).await;
    finish(&store, lazy(session.worker(), loud), &failing(Retry::Never)).await;
    let told = told(&store).await;
    assert_eq!(told.iter().map(|job| said(job).0).collect::<Vec<_>>(), [loud.id]);
    assert_eq!(found_by(&audit(db, plan()).await, "callbacks"), []);
}

pub async fn racing_ends_are_told_of_once(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let pointer = queue(&here, job()).await;
        ids.push(pointer.id);
        let write = finish_of(&here, lazy(session.worker(), pointer), &Event::Succeed).await;
        together((0..4).map(|n| {
            let store = if n % 2 == 0 { here.clone() } else { there.clone() };
            let write = write.clone();
            async move {
                if n < 2 {
                    store.cancel(TENANT, write.lease.job).await.expect("asked");
                } else {
                    store.finish(&[write]).await.expect("written");
                }
            }
        }))
        .await;
    }
    let mut told: Vec<JobId> = told(&here).await.iter().map(|job| said(job).0).collect();
    told.sort_unstable();
    assert_eq!(told, ids);
}

pub async fn a_repeated_request_keeps_the_first_callback(db: &impl Database) {
    let store = db.store();
    let keyed = || NewJob { idempotency: factory::idempotency("k", 1), ..job() };
    let (first, again, plain) = (keyed(), keyed(), factory::job());
    let ids = [first.id, again.id, plain.id];
    let accepted = store.accept(&[first, again, plain]).await.expect("accepted");
    assert!(matches!(accepted[1], Accepted::Repeated(id) if id == ids[0]), "{accepted:?}");
    let mut kept = Vec::new();
    for id in ids {
        kept.push(store.callback(TENANT, id.0).await.expect("read").is_some());
    }
    assert_eq!(kept, [true, false, false]);
    let fetched = store.fetch(&[ids[0], ids[2]]).await.expect("fetched");
    let linked: Vec<bool> = fetched.into_iter().map(|job| job.expect("it is there").linked).collect();
    assert_eq!(linked, [true, false]);
}

pub async fn a_batch_and_its_jobs_are_told_of(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = NewBatch {
        id: BatchId::new(),
        sealed: true,
        metadata: Some(factory::raw(r#"{"a": 1}"#)),
        follow_up: None,
        callback: callback(&End::OF_BATCHES),
    };
    let id = batch.id;
    let filling = Filling { tenant: TENANT.to_owned(), target: Target::New(Box::new(batch)), idempotency: None };
    let Filled::Done(queued) = fill(&store, &filling, vec![job(), factory::job()]).await else { panic!("filled") };
    for (n, dispatch) in queued.dispatches.iter().enumerate() {
        assert_eq!(told(&store).await.len(), n, "of the batch only once it is finished");
        finish(&store, lazy(session.worker(), dispatch.pointer), &Event::Succeed).await;
    }
    let told = told(&store).await;
    let (subject, body) = said(told.first().expect("the newest"));
    assert_eq!((told.len(), subject.0, &body["type"]), (2, id.0, &Value::from("batch.finished")));
    let counts = serde_json::json!({"succeeded": 2, "failed": 0, "cancelled": 0});
    assert_eq!((&body["data"]["counts"], &body["data"]["total"]), (&counts, &Value::from(2)));
    assert_eq!(body["data"]["metadata"]["a"], 1);
    assert_eq!(told[0].batch_id, None);
    assert_eq!(found_by(&audit(db, plan()).await, "callbacks"), []);
}

pub async fn a_callback_is_kept_as_long_as_its_job(db: &impl Database) {
    let store = db.store();
    let session = store.join(&factory::worker(&[factory::KIND, KIND])).await.expect("joined");
    let waiting = accept(&store, NewJob { delay: Some(Duration::from_secs(600)), ..job() }).await;
    let ended = queue(&store, job()).await;
    finish(&store, lazy(session.worker(), ended), &Event::Succeed).await;
    let telling = told(&store).await.first().expect("it is told of").id;
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    let kept = async |id: JobId| store.callback(TENANT, id.0).await.expect("read").is_some();
    assert_eq!((store.job(TENANT, ended.id).await.expect("read").is_some(), kept(ended.id).await), (false, true));
    let pointer = promoted(&store, telling).await;
    finish(&store, lazy(session.worker(), pointer), &Event::Succeed).await;
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert_eq!((kept(ended.id).await, kept(waiting).await), (false, true));
}

pub async fn a_callback_that_was_not_fired_is_found(db: &impl Database) {
    let store = db.store();
    let ids = [accept(&store, job()).await, accept(&store, job()).await];
    let (jobs, first) = (db.dialect().jobs(), db.dialect().id(ids[0]));
    let now = db.dialect().in_seconds(0);
    let end = format!("UPDATE {jobs} SET state = 'cancelled', epoch = 2, finished_at = {now} WHERE id = {first}");
    db.tamper(end).await;
    store.cancel(TENANT, ids[1]).await.expect("asked");
    let telling = told(&store).await.first().expect("it is told of").id;
    db.tamper(format!("DELETE FROM {jobs} WHERE id = {}", db.dialect().id(telling))).await;
    let outcome = audit(db, plan()).await;
    assert_eq!(found_by(&outcome, "callbacks"), [telling]);
    let report = outcome.reports.iter().find(|report| report.check == "callbacks").expect("a report");
    assert!(report.findings[0].problem.contains(&ids[0].to_string()), "{report:?}");
    assert_eq!(report.findings.len(), 2);
}
