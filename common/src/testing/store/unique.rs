//! Unique keys: one live job has one, whoever comes, in whatever order, and whatever ends.

use crate::job::transition::{Event, Retry};
use crate::job::{BatchId, JobId, NewJob, OnConflict, State, UniqueKey};
use crate::store::{Accepted, Cancelled, Entered, Filled, Filling, HeldKey, JobFilter, NewBatch, Target};
use crate::testing::factory::{self, TENANT};

use super::batches::fill;
use super::steps::{
    APPLIED, Shared, accept, audit, claim, failing, finish, finish_of, found_by, join, lazy, orphaned, plan, promoted,
    queue, read, reap, running, together,
};
use super::{Database, Dialect};
use OnConflict::{Refuse, Replace, Return};

fn keyed(key: &str, on_conflict: OnConflict) -> NewJob {
    NewJob { unique: Some(UniqueKey { key: key.to_owned(), on_conflict }), ..factory::job() }
}

async fn submit(store: &Shared, job: NewJob) -> Accepted {
    store.accept(&[job]).await.expect("accepted").remove(0)
}

/// The jobs that are not final.
async fn live(store: &Shared) -> Vec<JobId> {
    let filter = JobFilter { limit: 10_000, ..factory::filter() };
    let jobs = store.jobs(&filter).await.expect("listed");
    jobs.into_iter().filter(|job| !job.state.is_final()).map(|job| job.id).collect()
}

async fn clean(db: &impl Database) {
    let outcome = audit(db, plan()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
}

pub async fn a_key_has_one_live_job(db: &impl Database) {
    let store = db.store();
    let first = accept(&store, keyed("k", Return)).await;
    assert_eq!(read(&store, first).await.unique_key.as_deref(), Some("k"));
    for on_conflict in [Return, Refuse] {
        let job = keyed("k", on_conflict);
        let id = job.id;
        let answer = submit(&store, job).await;
        match on_conflict {
            Return => assert!(matches!(answer, Accepted::Matched(job) if job == first), "{answer:?}"),
            _ => assert!(matches!(answer, Accepted::Held(job) if job == first), "{answer:?}"),
        }
        assert!(store.job(TENANT, id).await.expect("read").is_none(), "nothing was written");
    }
    // Another key, another kind, another tenant.
    accept(&store, keyed("K", Refuse)).await;
    accept(&store, NewJob { kind: "other.kind".to_owned(), ..keyed("k", Refuse) }).await;
    accept(&store, NewJob { tenant: "other".to_owned(), ..keyed("k", Refuse) }).await;
    clean(db).await;
}

pub async fn whatever_ends_a_job_frees_its_key(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let next = || keyed("k", Refuse);
    for event in [Event::Succeed, failing(Retry::Never)] {
        let lease = running(&store, worker, next()).await;
        assert_eq!(finish(&store, lease, &event).await, APPLIED);
    }
    let pointer = queue(&store, next()).await;
    assert_eq!(finish(&store, lazy(worker, pointer), &Event::Succeed).await, APPLIED);
    let lease = running(&store, worker, next()).await;
    let success = finish_of(&store, lease, &Event::Succeed).await;
    let transaction = store.begin(&lease).await.expect("begun");
    assert_eq!(transaction.finish(&success).await.expect("committed"), APPLIED);
    let waiting = accept(&store, next()).await;
    assert_eq!(store.cancel(TENANT, waiting).await.expect("cancelled"), Some(Cancelled::Now));
    let batch = BatchId::new();
    entered(&store, batch, vec![next()]).await;
    store.cancel_batch(batch, None, 10).await.expect("cancelled");
    orphaned(&store, NewJob { max_attempts: 1, ..next() }).await;
    assert_eq!(reap(&store).await.ended.len(), 1);
    accept(&store, next()).await;
    clean(db).await;
}

/// It is handed over, and comes back for its next attempt: all the time it is one and the same job.
pub async fn a_job_keeps_its_key_between_its_attempts(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), keyed("k", Return)).await;
    let held = |answer: &Accepted| matches!(answer, Accepted::Held(job) if *job == lease.job);
    assert!(held(&submit(&store, keyed("k", Replace)).await), "it runs");
    assert_eq!(finish(&store, lease, &failing(Retry::After(std::time::Duration::ZERO))).await, APPLIED);
    assert!(held(&submit(&store, keyed("k", Refuse)).await), "it waits");
    let pointer = promoted(&store, lease.job).await;
    let again = claim(&store, session.worker(), pointer).await;
    assert!(held(&submit(&store, keyed("k", Refuse)).await), "it runs again");
    assert_eq!(finish(&store, again, &Event::Succeed).await, APPLIED);
    accept(&store, keyed("k", Refuse)).await;
    clean(db).await;
}

pub async fn what_has_not_started_is_replaced(db: &impl Database) {
    let store = db.store();
    let batch = BatchId::new();
    entered(&store, batch, vec![keyed("k", Return), factory::job()]).await;
    let first = live(&store).await[1];
    let job = keyed("k", Replace);
    let id = job.id;
    let answer = submit(&store, job).await;
    assert!(matches!(answer, Accepted::New { replaced: Some(old), .. } if old == first), "{answer:?}");
    assert_eq!(read(&store, first).await.state, State::Cancelled);
    let counts = store.batch(TENANT, batch).await.expect("read").expect("it is there").counts;
    assert_eq!((counts.cancelled, counts.queued), (1, 1), "its batch has counted it");
    let answer = submit(&store, keyed("k", Return)).await;
    assert!(matches!(answer, Accepted::Matched(job) if job == id), "{answer:?}");
    clean(db).await;
}

pub async fn several_of_one_key_in_one_call_are_taken_in_their_order(db: &impl Database) {
    let store = db.store();
    let jobs: Vec<_> = [Return, Return, Refuse, Replace, Replace].map(|policy| keyed("k", policy)).into();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    let mixed = [jobs, vec![factory::job(), keyed("l", Refuse)]].concat();
    let answers = store.accept(&mixed).await.expect("accepted");
    assert!(matches!(answers[0], Accepted::New { replaced: None, .. }), "{answers:?}");
    assert!(matches!(answers[1], Accepted::Matched(job) if job == ids[0]), "{answers:?}");
    assert!(matches!(answers[2], Accepted::Held(job) if job == ids[0]), "{answers:?}");
    assert!(matches!(answers[3], Accepted::New { replaced: Some(job), .. } if job == ids[0]), "{answers:?}");
    assert!(matches!(answers[4], Accepted::New { replaced: Some(job), .. } if job == ids[3]), "{answers:?}");
    assert!(matches!(answers[5..], [Accepted::New { .. }, Accepted::New { .. }]), "{answers:?}");
    assert_eq!(live(&store).await, [mixed[6].id, mixed[5].id, ids[4]]);
    clean(db).await;
}

pub async fn an_idempotency_key_goes_before_a_unique_key(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let request = |idempotency: &str, on_conflict| NewJob {
        idempotency: factory::idempotency(idempotency, 1),
        ..keyed("k", on_conflict)
    };
    let first = accept(&store, request("a", Replace)).await;
    let repeated = |answer: &Accepted| matches!(answer, Accepted::Repeated(job) if *job == first);
    assert!(repeated(&submit(&store, request("a", Replace)).await), "it does not replace itself");
    assert!(matches!(submit(&store, request("b", Return)).await, Accepted::Matched(job) if job == first));
    assert!(matches!(submit(&store, request("c", Refuse)).await, Accepted::Held(job) if job == first));
    let twice = store.accept(&[request("d", Return), request("d", Return)]).await.expect("accepted");
    assert!(
        matches!(twice[..], [Accepted::Matched(a), Accepted::Repeated(b)] if a == first && b == first),
        "{twice:?}"
    );

    let lease = claim(&store, session.worker(), pointer_of(&store, first).await).await;
    assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);
    for key in ["a", "b", "d"] {
        assert!(repeated(&submit(&store, request(key, Return)).await), "what was answered is answered again: {key}");
    }
    let answer = submit(&store, request("c", Refuse)).await;
    assert!(matches!(answer, Accepted::New { .. }), "what was refused can be tried again: {answer:?}");
    clean(db).await;
}

async fn pointer_of(store: &Shared, job: JobId) -> crate::store::Pointer {
    let job = read(store, job).await;
    let queued_at = job.queued_at.expect("it is queued").timestamp_micros();
    crate::store::Pointer { id: job.id, epoch: job.epoch, queued_at }
}

/// Whoever comes at the same time, from whichever process.
pub async fn racing_submitters_of_one_key_leave_one_live_job(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    for on_conflict in [Return, Refuse, Replace] {
        let key = on_conflict.as_str();
        let answers = together((0..64).map(|n| {
            let store = if n % 2 == 0 { here.clone() } else { there.clone() };
            async move {
                let job = keyed(key, on_conflict);
                (job.id, submit(&store, job).await)
            }
        }))
        .await;
        let mut new: Vec<_> =
            answers.iter().filter(|(_, a)| matches!(a, Accepted::New { .. })).map(|(id, _)| *id).collect();
        let live: Vec<_> = {
            let mut live = live(&here).await;
            live.retain(|job| new.contains(job));
            live
        };
        assert_eq!(live.len(), 1, "{on_conflict}");
        if on_conflict == Replace {
            let mut replaced: Vec<_> = answers.iter().filter_map(|(_, answer)| replaced(answer)).collect();
            replaced.push(live[0]);
            replaced.sort_unstable();
            new.sort_unstable();
            assert_eq!((new.len(), &replaced), (64, &new), "each but the last was replaced, by one");
        } else {
            assert_eq!(new, live, "{on_conflict}");
            let led = |answer: &Accepted| matches!(answer, Accepted::Matched(j) | Accepted::Held(j) if *j == live[0]);
            assert_eq!(answers.iter().filter(|(_, answer)| led(answer)).count(), 63, "{on_conflict}");
        }
    }
    clean(db).await;
}

fn replaced(answer: &Accepted) -> Option<JobId> {
    if let Accepted::New { replaced, .. } = answer { *replaced } else { None }
}

/// Calls that come for the same keys in opposite orders, by every policy, while what they made ends and is cancelled.
pub async fn racing_calls_and_ends_neither_lock_each_other_out_nor_share_a_key(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    let worker = session.worker();
    let policies = [Return, Replace, Refuse, Replace];
    together((0..12).map(|n: usize| {
        let store = if n.is_multiple_of(2) { here.clone() } else { there.clone() };
        async move {
            for round in 0..4 {
                let mut jobs: Vec<_> = (0..8).map(|k| keyed(&format!("{k}"), policies[(k + n + round) % 4])).collect();
                if n.is_multiple_of(3) {
                    jobs.reverse();
                }
                let accepted = store.accept(&jobs).await.expect("accepted");
                for (at, answer) in accepted.into_iter().enumerate() {
                    match answer {
                        Accepted::New { dispatch: Some(dispatch), .. } if at % 2 == 0 => {
                            let claims = [super::steps::claim_of(dispatch.pointer)];
                            let granted = store.claim(worker, &claims).await.expect("asked");
                            if let Some(lease) = granted[0].lease() {
                                assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);
                            }
                        }
                        Accepted::Matched(job) | Accepted::Held(job) => {
                            store.cancel(TENANT, job).await.expect("asked");
                        }
                        _ => {}
                    }
                }
            }
        }
    }))
    .await;
    clean(db).await;
}

fn filling(batch: BatchId) -> Filling {
    let batch = NewBatch { id: batch, sealed: true, metadata: None, follow_up: None, callback: None };
    Filling { tenant: TENANT.to_owned(), target: Target::New(Box::new(batch)), idempotency: None }
}

async fn entered(store: &Shared, batch: BatchId, jobs: Vec<NewJob>) -> Entered {
    match fill(store, &filling(batch), jobs).await {
        Filled::Done(entered) => entered,
        other => panic!("expected a new batch, not {other:?}"),
    }
}

pub async fn a_batch_leaves_out_what_another_job_stands_for(db: &impl Database) {
    let store = db.store();
    let other = accept(&store, keyed("taken", Return)).await;
    let replaced = accept(&store, keyed("replaced", Return)).await;
    let jobs = vec![
        keyed("new", Return),
        factory::job(),
        keyed("taken", Return),
        keyed("new", Return),
        keyed("replaced", Replace),
        keyed("twice", Replace),
        keyed("twice", Replace),
    ];
    let stay: Vec<_> = [0, 1, 4, 6].map(|n: usize| jobs[n].id).into();
    let batch = BatchId::new();
    let entered = entered(&store, batch, jobs).await;
    assert_eq!((entered.matched, &entered.replaced[..]), (3, &[replaced][..]));
    let sent: Vec<_> = entered.dispatches.iter().map(|dispatch| dispatch.pointer.id).collect();
    assert_eq!(sent, stay);
    let mut left = live(&store).await;
    left.reverse();
    assert_eq!(left, [&[other][..], &stay].concat());
    assert_eq!(store.batch(TENANT, batch).await.expect("read").expect("it is there").total, 4);
    clean(db).await;
}

pub async fn a_batch_that_another_stands_for_as_a_whole_is_finished_at_once(db: &impl Database) {
    let store = db.store();
    accept(&store, keyed("k", Return)).await;
    let batch = BatchId::new();
    assert_eq!(entered(&store, batch, vec![keyed("k", Return)]).await.matched, 1);
    let batch = store.batch(TENANT, batch).await.expect("read").expect("it is there");
    assert_eq!((batch.total, batch.finished_at.is_some()), (0, true));
    clean(db).await;
}

pub async fn a_key_that_a_batch_does_not_do_without_refuses_all_of_it(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), keyed("k", Return)).await;
    for on_conflict in [Refuse, Replace] {
        let filled = fill(&store, &filling(BatchId::new()), vec![factory::job(), keyed("k", on_conflict)]).await;
        let expected = HeldKey { kind: factory::KIND.to_owned(), key: "k".to_owned(), by: Some(lease.job) };
        assert!(matches!(&filled, Filled::Held(held) if *held == expected), "{filled:?}");
    }
    let filled = fill(&store, &filling(BatchId::new()), vec![keyed("l", Refuse), keyed("l", Refuse)]).await;
    assert!(matches!(&filled, Filled::Held(held) if held.by.is_none()), "{filled:?}");
    assert_eq!(live(&store).await, [lease.job], "nothing was written");
    accept(&store, keyed("l", Refuse)).await;
    clean(db).await;
}

pub async fn a_failed_job_of_a_batch_is_repeated_once_its_key_is_free(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = BatchId::new();
    let mut pointers = Vec::new();
    for dispatch in entered(&store, batch, vec![keyed("k", Return), factory::job()]).await.dispatches {
        pointers.push(dispatch.pointer);
    }
    for pointer in &pointers {
        let lease = claim(&store, session.worker(), *pointer).await;
        assert_eq!(finish(&store, lease, &failing(Retry::Never)).await, APPLIED);
    }
    let successor = accept(&store, keyed("k", Return)).await;
    assert_eq!(store.retry_batch(TENANT, batch, 10).await.expect("repeated"), 1, "not the one whose key is taken");
    assert_eq!(store.retry_batch(TENANT, batch, 10).await.expect("repeated"), 0);
    store.cancel(TENANT, successor).await.expect("cancelled");
    assert_eq!(store.retry_batch(TENANT, batch, 10).await.expect("repeated"), 1);
    let answer = submit(&store, keyed("k", Refuse)).await;
    let again = live(&store).await;
    assert!(matches!(answer, Accepted::Held(job) if again.contains(&job)), "{answer:?}");
    assert_eq!(store.batch(TENANT, batch).await.expect("read").expect("it is there").total, 4);
    clean(db).await;
}

pub async fn live_jobs_that_share_a_key_are_found(db: &impl Database) {
    let store = db.store();
    let (first, second) = (accept(&store, keyed("k", Return)).await, accept(&store, factory::job()).await);
    clean(db).await;
    let (jobs, id) = (db.dialect().jobs(), db.dialect().id(second));
    db.tamper(db.dialect().lift_unique_keys().to_owned()).await;
    db.tamper(format!("UPDATE {jobs} SET unique_key = 'k' WHERE id = {id}")).await;
    assert_eq!(found_by(&audit(db, plan()).await, "unique"), [first, second]);
    db.tamper(format!("UPDATE {jobs} SET unique_key = NULL WHERE id = {id}")).await;
    clean(db).await;
    if db.dialect() == Dialect::Postgres {
        db.tamper(format!("UPDATE offload.unique_keys SET job_id = {id}")).await;
        assert_eq!(found_by(&audit(db, plan()).await, "unique"), [first, second], "the table is not believed");
    }
}
