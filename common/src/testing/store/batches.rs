//! Batches: filled whole or not at all, counted exactly, finished once.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::Database;
use super::steps::{
    KEEP_NOTHING, Shared, audit, claim, claim_and_leave, failing, finish, finish_as, finish_of, found_by, join, lazy,
    plan as audited, promoted_page, read, reap, together,
};
use crate::job::transition::{Event, Retry};
use crate::job::{BatchId, JobId, JobPlan, NewJob, Priority, State};
use crate::store::{
    Batch, BatchFilter, Cancelled, CancelledPage, Counts, Error, Filled, Filling, Finish, Finished, JobFilter,
    NewBatch, Pages, Pointer, Result, Target,
};
use crate::testing::factory::{self, TENANT};

/// Pages that are in memory.
pub(super) struct Given(pub(super) Vec<Result<Vec<NewJob>>>);

#[async_trait]
impl Pages for Given {
    async fn next(&mut self) -> Result<Vec<NewJob>> {
        if self.0.is_empty() { Ok(Vec::new()) } else { self.0.remove(0) }
    }
}

fn new_batch() -> NewBatch {
    NewBatch { id: BatchId::new(), sealed: true, metadata: None, follow_up: None, callback: None }
}

fn filling(target: Target) -> Filling {
    Filling { tenant: TENANT.to_owned(), target, idempotency: None }
}

pub(super) async fn fill(store: &Shared, filling: &Filling, jobs: Vec<NewJob>) -> Filled {
    store.fill_batch(filling, &mut Given(vec![Ok(jobs)])).await.expect("filled")
}

/// Makes a batch of jobs that are queued at once.
async fn make(store: &Shared, batch: NewBatch, jobs: Vec<NewJob>) -> Vec<Pointer> {
    match fill(store, &filling(Target::New(Box::new(batch))), jobs).await {
        Filled::Done(entered) => entered.dispatches.into_iter().map(|dispatch| dispatch.pointer).collect(),
        other => panic!("expected a new batch, not {other:?}"),
    }
}

async fn of(store: &Shared, id: BatchId) -> Batch {
    store.batch(TENANT, id).await.expect("read").expect("it is there")
}

async fn counts(store: &Shared, id: BatchId) -> [u64; 6] {
    let Counts { scheduled, queued, running, succeeded, failed, cancelled } = of(store, id).await.counts;
    [scheduled, queued, running, succeeded, failed, cancelled]
}

fn plan() -> JobPlan {
    JobPlan::from(NewJob { payload: factory::raw(r#"{ "follow": 1.50 }"#), tags: vec!["t".into()], ..factory::job() })
}

async fn jobs_of(store: &Shared, id: BatchId) -> Vec<JobId> {
    let jobs = store.jobs(&JobFilter { batch_id: Some(id.0), ..factory::filter() }).await.expect("listed");
    jobs.into_iter().map(|job| job.id).collect()
}

/// The two ways in write the same rows.
pub async fn jobs_of_a_batch_read_back_as_they_were_accepted(db: &impl Database) {
    let store = db.store();
    let later = crate::clock::now() + chrono::TimeDelta::seconds(500);
    let variants = || {
        [
            factory::job(),
            NewJob { admit: false, ..factory::job() },
            NewJob { run_at: Some(later), ..factory::job() },
            NewJob { delay: Some(Duration::from_secs(900)), max_attempts: 1, ..factory::job() },
            NewJob {
                lane: crate::job::Lane { queue: "réports".into(), priority: Priority::Low },
                payload: factory::raw("{ \"ä\\u0009\\\\\" : [1.0, null, \"\\\\N\t\"] }".replace('\t', "\\t").as_str()),
                metadata: Some(factory::raw(r#"{"a" : "ü"}"#)),
                tags: vec!["one".into(), "a \"quoted\", {braced} NULL".into()],
                traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
                retry_of: Some(JobId::new()),
                timeout: Duration::from_millis(1500),
                ..factory::job()
            },
        ]
    };
    let alone = variants();
    store.accept(&alone).await.expect("accepted");
    let (batch, together) = (new_batch(), variants());
    let id = batch.id;
    make(&store, batch, together.to_vec()).await;
    for (alone, together) in alone.iter().zip(&together) {
        let (one, other) = (read(&store, alone.id).await, read(&store, together.id).await);
        assert_eq!(other.batch_id, Some(id.0));
        let show = |job: crate::job::Job| {
            let (queued, due) = (job.queued_at.is_some(), job.due);
            let delay = (job.run_at - job.created_at).num_seconds() / 10;
            let rest = (
                job.kind,
                job.lane,
                job.state,
                job.epoch,
                job.max_attempts,
                job.timeout,
                job.tags,
                job.retry_of.is_some(),
            );
            let texts = (job.payload.get().to_owned(), job.metadata.map(|raw| raw.get().to_owned()), job.tenant);
            format!("{rest:?} {texts:?} {queued} {due} {delay} {:?}", job.history)
        };
        assert_eq!(show(one), show(other));
    }
    let candidate = store.fetch(&[together[4].id, alone[4].id]).await.expect("fetched");
    let [Some(linked), Some(plain)] = &candidate[..] else { panic!("both are there") };
    assert_eq!((linked.linked, plain.linked), (true, false));
    assert_eq!((linked.retry_policy, &linked.traceparent), (plain.retry_policy, &plain.traceparent));
    assert_eq!(counts(&store, id).await, [2, 3, 0, 0, 0, 0]);
}

/// Whatever ends a job counts it: a lazy end, a claimed one, a handler's commit, a reaper, a client.
pub async fn every_way_to_an_end_is_counted(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let batch = new_batch();
    let id = batch.id;
    let mut jobs = factory::jobs(7);
    jobs[4].max_attempts = 1;
    let queued = make(&store, batch, jobs).await;
    assert_eq!(counts(&store, id).await, [0, 7, 0, 0, 0, 0]);

    finish(&store, lazy(worker, queued[0]), &Event::Succeed).await;
    let lease = claim(&store, worker, queued[1]).await;
    assert_eq!(counts(&store, id).await, [0, 5, 1, 1, 0, 0]);
    finish(&store, lease, &failing(Retry::Never)).await;
    let lease = claim(&store, worker, queued[2]).await;
    let transaction = store.begin(&lease).await.expect("begun");
    let write = finish_of(&store, lease, &Event::Succeed).await;
    assert_eq!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None));
    assert_eq!(store.cancel(TENANT, queued[3].id).await.expect("asked"), Some(Cancelled::Now));
    claim_and_leave(&store, queued[4]).await;
    reap(&store).await;
    assert_eq!(counts(&store, id).await, [0, 2, 0, 2, 2, 1]);

    // What is not an end is not counted, and a wish to cancel is, once it is followed.
    finish(&store, lazy(worker, queued[5]), &failing(Retry::After(Duration::from_secs(600)))).await;
    let lease = claim(&store, worker, queued[6]).await;
    assert_eq!(store.cancel(TENANT, queued[6].id).await.expect("asked"), Some(Cancelled::Requested));
    assert_eq!(counts(&store, id).await, [1, 0, 1, 2, 2, 1]);
    finish(&store, lease, &Event::Stopped).await;
    let before = of(&store, id).await;
    assert_eq!((before.finished_at, before.total), (None, 7));
    assert_eq!(before.errors.iter().map(|failed| failed.job).collect::<Vec<_>>(), [queued[1].id, queued[4].id]);
    let codes: Vec<_> =
        before.errors.iter().map(|failed| failed.error.as_ref().expect("it failed").code.clone()).collect();
    assert_eq!(codes, ["boom", "worker_lost"]);

    store.cancel(TENANT, queued[5].id).await.expect("asked");
    let after = of(&store, id).await;
    assert_eq!(after.counts, Counts { succeeded: 2, failed: 2, cancelled: 3, ..Counts::default() });
    assert!(after.finished_at.is_some() && after.rate > 0.0);
}

/// An end may be written by somebody who does not know that the job is linked, and again when its reply was lost.
pub async fn an_end_counts_once(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = NewBatch { follow_up: Some(plan()), ..new_batch() };
    let id = batch.id;
    let queued = make(&store, batch, factory::jobs(4)).await;
    for (n, pointer) in queued.iter().enumerate() {
        let write = finish_of(&store, lazy(session.worker(), *pointer), &Event::Succeed).await;
        for linked in [n % 2 == 0, n % 2 == 1, true, false] {
            let finished = finish_as(&store, &Finish { linked, ..write.clone() }).await;
            assert_eq!(finished, Finished::Applied(None));
            assert_eq!(of(&store, id).await.counts.succeeded, n as u64 + 1);
        }
        store.cancel(TENANT, pointer.id).await.expect("asked");
    }
    assert_eq!(counts(&store, id).await, [0, 0, 0, 4, 0, 0]);
    assert_eq!(store.jobs(&factory::filter()).await.expect("listed").len(), 5, "one job followed");
}

pub async fn plain_and_linked_ends_are_written_together(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = new_batch();
    let id = batch.id;
    let linked = make(&store, batch, factory::jobs(3)).await;
    let plain = super::steps::queue_all(&store, &factory::jobs(3)).await;
    let mut writes = Vec::new();
    for pointer in linked.iter().zip(&plain).flat_map(|(one, other)| [*one, *other]) {
        writes.push(finish_of(&store, lazy(session.worker(), pointer), &Event::Succeed).await);
    }
    // One that was lost among them.
    writes[4].lease.epoch += 1;
    let finished = store.finish(&writes).await.expect("written");
    let lost: Vec<bool> = finished.iter().map(|finished| *finished == Finished::Lost).collect();
    assert_eq!(lost, [false, false, false, false, true, false]);
    assert_eq!(counts(&store, id).await, [0, 1, 0, 2, 0, 0]);
}

pub async fn racing_ends_are_counted_exactly_and_followed_once(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let session = join(&here).await;
    let worker = session.worker();
    let mut all = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let batch = NewBatch { follow_up: Some(plan()), ..new_batch() };
        ids.push(batch.id);
        all.extend(make(&here, batch, factory::jobs(40)).await);
    }
    // Each group holds jobs of every batch, in different orders.
    let mut groups: Vec<Vec<Finish>> = vec![Vec::new(); 8];
    for (n, pointer) in all.iter().enumerate() {
        let event = if n % 5 == 0 { failing(Retry::Never) } else { Event::Succeed };
        groups[n % 8].push(finish_of(&here, lazy(worker, *pointer), &event).await);
    }
    groups.iter_mut().step_by(2).for_each(|group| group.reverse());
    together(groups.into_iter().enumerate().map(|(n, group)| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            for part in group.chunks(5) {
                store.finish(part).await.expect("written");
            }
        }
    }))
    .await;
    for id in ids {
        let batch = of(&here, id).await;
        assert_eq!((batch.counts.succeeded, batch.counts.failed, batch.total), (32, 8, 40));
        assert!(batch.finished_at.is_some());
        let followed = read(&here, batch.follow_up.expect("it was followed")).await;
        assert_eq!(followed.payload.get(), r#"{ "follow": 1.50 }"#);
        assert_eq!((followed.batch_id, followed.state, followed.tags), (None, State::Scheduled, vec!["t".to_owned()]));
    }
    assert_eq!(here.jobs(&factory::filter()).await.expect("listed").len(), 123, "each was followed once");
}

pub async fn a_key_names_one_batch(db: &impl Database) {
    let store = db.store();
    let keyed =
        |body| Filling { idempotency: factory::idempotency("k", body), ..filling(Target::New(Box::new(new_batch()))) };
    let (first, again, other) = (keyed(1), keyed(1), keyed(2));
    assert!(matches!(fill(&store, &first, factory::jobs(2)).await, Filled::Done(_)));
    let repeated = fill(&store, &again, factory::jobs(2)).await;
    assert!(matches!(repeated, Filled::Repeated(id) if id == first.batch()), "{repeated:?}");
    assert!(matches!(fill(&store, &other, factory::jobs(2)).await, Filled::KeyReused));
    assert!(store.batch(TENANT, again.batch()).await.expect("read").is_none());
    assert_eq!(store.jobs(&factory::filter()).await.expect("listed").len(), 2);
}

pub async fn racing_requests_with_one_key_make_one_batch(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let filled = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        let idempotency = factory::idempotency("k", 1);
        let filling = Filling { idempotency, ..filling(Target::New(Box::new(new_batch()))) };
        async move { fill(&store, &filling, factory::jobs(20)).await }
    }))
    .await;
    let made = filled.iter().filter(|filled| matches!(filled, Filled::Done(_))).count();
    assert_eq!(made, 1, "{filled:?}");
    assert!(filled.iter().all(|f| matches!(f, Filled::Done(_) | Filled::Repeated(_) | Filled::InFlight)), "{filled:?}");
    assert_eq!(here.jobs(&factory::filter()).await.expect("listed").len(), 20);
}

/// A client that broke off, or a row that is refused: nothing is left, and the key is free.
pub async fn a_batch_that_fails_in_the_middle_leaves_nothing(db: &impl Database) {
    let store = db.store();
    let target =
        || Filling { idempotency: factory::idempotency("k", 1), ..filling(Target::New(Box::new(new_batch()))) };
    let broken = target();
    let mut pages = Given(vec![Ok(factory::jobs(10)), Err(Error::Unavailable("on purpose".into()))]);
    assert!(matches!(store.fill_batch(&broken, &mut pages).await, Err(Error::Unavailable(_))));
    let refused = target();
    let mut jobs = factory::jobs(3);
    jobs[2].id = jobs[0].id;
    let mut pages = Given(vec![Ok(factory::jobs(10)), Ok(jobs)]);
    assert!(matches!(store.fill_batch(&refused, &mut pages).await, Err(Error::Rejected(_))));
    for filling in [&broken, &refused] {
        assert!(store.batch(TENANT, filling.batch()).await.expect("read").is_none());
    }
    assert!(store.jobs(&factory::filter()).await.expect("listed").is_empty());
    let mut pages = Given((0..3).map(|_| Ok(factory::jobs(700))).collect());
    let filled = store.fill_batch(&target(), &mut pages).await.expect("filled");
    assert!(matches!(filled, Filled::Done(entered) if entered.dispatches.len() == 2100));
}

pub async fn an_open_batch_grows_until_it_is_sealed(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = NewBatch { sealed: false, follow_up: Some(plan()), ..new_batch() };
    let id = batch.id;
    let first = make(&store, batch, factory::jobs(1)).await;
    finish(&store, lazy(session.worker(), first[0]), &Event::Succeed).await;
    assert_eq!(of(&store, id).await.finished_at, None, "more may come");
    let more = || filling(Target::Open(id));
    let Filled::Done(second) = fill(&store, &more(), factory::jobs(2)).await else { panic!("it is open") };
    assert!(store.seal_batch(TENANT, id).await.expect("sealed"));
    assert!(store.seal_batch(TENANT, id).await.expect("sealed again"));
    assert!(matches!(fill(&store, &more(), factory::jobs(1)).await, Filled::Sealed));
    assert!(matches!(fill(&store, &filling(Target::Open(BatchId::new())), factory::jobs(1)).await, Filled::Missing));
    let elsewhere = Filling { tenant: "other".into(), ..more() };
    assert!(matches!(fill(&store, &elsewhere, factory::jobs(1)).await, Filled::Missing));
    for dispatch in second.dispatches {
        finish(&store, lazy(session.worker(), dispatch.pointer), &Event::Succeed).await;
    }
    let batch = of(&store, id).await;
    assert_eq!((batch.total, batch.counts.succeeded, batch.sealed), (3, 3, true));
    assert!(batch.finished_at.is_some() && batch.follow_up.is_some());

    // One that is done when it is sealed is finished by that.
    let batch = NewBatch { sealed: false, follow_up: Some(plan()), ..new_batch() };
    let id = batch.id;
    make(&store, batch, Vec::new()).await;
    assert!(store.seal_batch(TENANT, id).await.expect("sealed"));
    let batch = of(&store, id).await;
    assert!(batch.finished_at.is_some() && batch.follow_up.is_some());
    assert!(
        !store.seal_batch("other", id).await.expect("asked")
            && !store.seal_batch(TENANT, BatchId::new()).await.expect("asked")
    );
}

pub async fn a_batch_is_cancelled_page_by_page(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = new_batch();
    let id = batch.id;
    let queued = make(&store, batch, factory::jobs(7)).await;
    let bystander = super::steps::queue(&store, factory::job()).await;
    let lease = claim(&store, session.worker(), queued[1]).await;
    finish(&store, lazy(session.worker(), queued[2]), &Event::Succeed).await;
    let (mut after, mut ended, mut requested, mut pages) = (None, Vec::new(), Vec::new(), 0);
    loop {
        let CancelledPage { ended: e, requested: r, next } = store.cancel_batch(id, after, 2).await.expect("cancelled");
        ended.extend(e);
        requested.extend(r);
        pages += 1;
        match next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: BTreeSet<_> = [0, 3, 4, 5, 6].map(|n: usize| queued[n].id).into();
    assert_eq!((ended.iter().copied().collect::<BTreeSet<_>>(), ended.len()), (expected, 5));
    assert_eq!((requested, pages), (vec![queued[1].id], 4));
    assert_eq!(counts(&store, id).await, [0, 0, 1, 1, 0, 5]);
    finish(&store, lease, &Event::Stopped).await;
    assert!(of(&store, id).await.finished_at.is_some());
    assert_eq!(read(&store, bystander.id).await.state, State::Queued);
}

/// What failed runs again as new jobs, each once, and the batch does not finish a second time.
pub async fn what_failed_is_repeated_once(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = NewBatch { follow_up: Some(plan()), ..new_batch() };
    let id = batch.id;
    let tagged = || NewJob { tags: vec!["x".into()], max_attempts: 2, ..factory::job() };
    let queued = make(&store, batch, vec![tagged(), tagged(), tagged()]).await;
    finish(&store, lazy(session.worker(), queued[0]), &Event::Succeed).await;
    for pointer in &queued[1..] {
        finish(&store, lazy(session.worker(), *pointer), &failing(Retry::Never)).await;
    }
    let first = of(&store, id).await;
    assert_eq!(store.retry_batch("other", id, 10).await.expect("asked"), 0);
    for expected in [1, 1, 0] {
        assert_eq!(store.retry_batch(TENANT, id, 1).await.expect("repeated"), expected);
    }
    let batch = of(&store, id).await;
    assert_eq!((batch.total, batch.counts.queued, batch.counts.failed), (5, 2, 2));
    let mut repeated = BTreeSet::new();
    for pointer in promoted_page(&store).await {
        let job = read(&store, pointer.id).await;
        if let Some(old) = job.retry_of {
            assert_eq!((job.batch_id, job.max_attempts, &job.tags[..]), (Some(id.0), 2, &["x".to_owned()][..]));
            repeated.insert(old);
            finish(&store, lazy(session.worker(), pointer), &failing(Retry::Never)).await;
        }
    }
    assert_eq!(repeated, [queued[1].id, queued[2].id].into());
    let last = of(&store, id).await;
    assert_eq!((last.counts.failed, last.finished_at, last.follow_up), (4, first.finished_at, first.follow_up));
    assert_eq!(store.retry_batch(TENANT, id, 10).await.expect("repeated"), 2, "the new ones failed, too");
    assert_eq!(jobs_of(&store, id).await.len(), 7);
}

pub async fn batches_are_listed_newest_first(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let metadata = (n == 0).then(|| factory::raw(r#"{ "n" : 0 }"#));
        let batch = NewBatch { metadata, ..new_batch() };
        ids.insert(0, batch.id);
        let queued = make(&store, batch, factory::jobs(1)).await;
        if n == 1 {
            finish(&store, lazy(session.worker(), queued[0]), &Event::Succeed).await;
        }
    }
    let filter = BatchFilter { tenant: TENANT.into(), finished: None, before: None, limit: 2 };
    let list = async |filter| {
        let batches = store.batches(&filter).await.expect("listed");
        batches.into_iter().map(|batch| batch.id).collect::<Vec<_>>()
    };
    assert_eq!(list(filter.clone()).await, ids[..2]);
    assert_eq!(list(BatchFilter { before: Some(ids[1]), ..filter.clone() }).await, ids[2..]);
    assert_eq!(list(BatchFilter { finished: Some(true), ..filter.clone() }).await, [ids[1]]);
    assert_eq!(list(BatchFilter { finished: Some(false), ..filter.clone() }).await, [ids[0], ids[2]]);
    assert!(list(BatchFilter { tenant: "other".into(), ..filter }).await.is_empty());
    assert_eq!(of(&store, ids[2]).await.metadata.map(|raw| raw.get().to_owned()).as_deref(), Some(r#"{ "n" : 0 }"#));
    assert!(store.batch("other", ids[0]).await.expect("read").is_none());
}

pub async fn pruning_keeps_batches_with_something_left_to_do(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let (done, waiting) = (new_batch(), new_batch());
    let (first, second) = (done.id, waiting.id);
    let queued = make(&store, done, factory::jobs(1)).await;
    make(&store, waiting, factory::jobs(1)).await;
    finish(&store, lazy(session.worker(), queued[0]), &Event::Succeed).await;
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert!(store.batch(TENANT, first).await.expect("read").is_none());
    assert!(store.batch(TENANT, second).await.expect("read").is_some());
}

pub async fn a_batch_that_counts_wrong_is_found(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let batch = new_batch();
    let id = batch.id;
    let keyed = Filling { idempotency: factory::idempotency("k", 1), ..filling(Target::New(Box::new(batch))) };
    let Filled::Done(queued) = fill(&store, &keyed, factory::jobs(3)).await else { panic!("it is new") };
    for dispatch in &queued.dispatches[..2] {
        finish(&store, lazy(session.worker(), dispatch.pointer), &Event::Succeed).await;
    }
    let clean = audit(db, audited()).await;
    assert!(clean.is_clean(), "{:#?}", clean.reports);
    let table = db.dialect().batches();
    for (change, back, part) in [
        ("succeeded = 1", "succeeded = 2", "1 of its jobs are not final, and it counts 1 ends of 3"),
        ("succeeded = 1, failed = 1", "succeeded = 2, failed = 0", "[2, 0, 0]"),
        ("total = 4", "total = 3", "ends of 4"),
    ] {
        db.tamper(format!("UPDATE {table} SET {change}")).await;
        let outcome = audit(db, audited()).await;
        assert!(found_by(&outcome, "batches").is_empty());
        let report = outcome.reports.iter().find(|report| report.check == "batches").expect("it is a check");
        let problem = &report.findings[0].problem;
        assert!(problem.contains(part) && problem.contains(&id.to_string()), "{problem}");
        db.tamper(format!("UPDATE {table} SET {back}")).await;
    }
    finish(&store, lazy(session.worker(), queued.dispatches[2].pointer), &Event::Succeed).await;
    db.tamper(format!("UPDATE {table} SET finished_at = NULL")).await;
    let outcome = audit(db, audited()).await;
    let report = outcome.reports.iter().find(|report| report.check == "batches").expect("it is a check");
    assert!(report.findings[0].problem.contains("was not finished"), "{report:?}");
}
