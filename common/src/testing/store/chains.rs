//! Chains: a job waits until its parents have ended, hears of each end, and goes on or is given up.

use std::time::Duration;

use chrono::TimeDelta;

use super::Database;
use super::batches::fill;
use super::steps::{
    APPLIED, KEEP_NOTHING, Shared, accept, audit, claim_and_leave, failing, finish, finish_of, join, lazy, plan,
    promoted, promoted_page, queue, read, reap, released, running, together,
};
use crate::clock;
use crate::job::transition::{Event, Retry};
use crate::job::{
    After, AfterPolicy, BatchId, EventId, Happening, Job, JobId, NewJob, PARENT_NOT_SUCCEEDED, Parents, State, WorkerId,
};
use crate::store::{Accepted, Cancelled, Filled, Filling, Finished, NewBatch, ParentEnd, Pointer, Released, Target};
use crate::testing::factory::{self, TENANT};

fn after(parents: &[JobId], policy: AfterPolicy) -> NewJob {
    NewJob { after: Some(After { jobs: parents.to_vec(), policy }), admit: false, ..factory::job() }
}

/// A job that runs after these, and is cancelled if one does not succeed.
async fn child(store: &Shared, parents: &[JobId]) -> JobId {
    accept(store, after(parents, AfterPolicy::Cancel)).await
}

async fn succeed(store: &Shared, worker: WorkerId, pointer: Pointer) {
    assert_eq!(finish(store, lazy(worker, pointer), &Event::Succeed).await, APPLIED);
}

async fn fail(store: &Shared, worker: WorkerId, pointer: Pointer) {
    assert_eq!(finish(store, lazy(worker, pointer), &failing(Retry::Never)).await, APPLIED);
}

/// Whether it waits, and for how many.
async fn waits(store: &Shared, id: JobId) -> Option<u32> {
    let Job { state, due, parents, .. } = read(store, id).await;
    let waiting = parents.expect("it has parents").waiting;
    assert!(waiting == 0 || (state == State::Scheduled && !due), "{state} and due: {due}");
    (waiting > 0).then_some(waiting)
}

pub async fn a_job_waits_until_its_parents_have_succeeded(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let (first, second) = (queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    let id = child(&store, &[second.id, first.id]).await;
    let job = read(&store, id).await;
    let parents = Parents { total: 2, waiting: 2, policy: AfterPolicy::Cancel, first: vec![second.id, first.id] };
    assert_eq!((job.state, job.visible_state(), job.parents), (State::Scheduled, State::Scheduled, Some(parents)));
    assert_eq!(job.run_at, job.created_at, "the time before which it is not to run");
    assert!(
        promoted_page(&store).await.is_empty() && store.next_due().await.expect("read") > Some(Duration::from_secs(60))
    );

    succeed(&store, worker, first).await;
    assert!(released(&store).await.is_empty());
    assert_eq!(waits(&store, id).await, Some(1));
    assert!(promoted_page(&store).await.is_empty());
    succeed(&store, worker, second).await;
    let before = store.release(1000).await.expect("released");
    assert_eq!(before, Released { proceeded: 1, cancelled: vec![], more: true });
    assert_eq!(waits(&store, id).await, None);
    let pointer = promoted(&store, id).await;
    let candidate = store.fetch(&[id, first.id]).await.expect("fetched");
    let [Some(of_child), Some(of_parent)] = &candidate[..] else { panic!("both are there") };
    assert_eq!((of_child.has_parents, of_child.followed, of_child.linked), (true, false, false));
    assert_eq!((of_parent.has_parents, of_parent.followed, of_parent.linked), (false, true, true));
    succeed(&store, worker, pointer).await;
    assert_eq!(store.release(1000).await.expect("released"), Released::default(), "nothing is left to tell");

    let trail = store.trails(&[(id, None)], 10).await.expect("read").remove(0).expect("it is there");
    let told = |event: &crate::job::JobEvent| match &event.what {
        Happening::State { state, run_at, .. } => (event.id, *state, run_at.is_some()),
        other => panic!("not {other:?}"),
    };
    let of = |epoch, n| EventId { epoch, n };
    assert_eq!(
        trail.events(None).iter().map(told).collect::<Vec<_>>(),
        [
            (of(1, 0), State::Scheduled, false),
            (of(2, 0), State::Queued, false),
            (of(3, 1), State::Running, false),
            (of(4, 0), State::Succeeded, false),
        ]
    );
    let outcome = audit(db, plan()).await;
    assert!(outcome.is_clean(), "{:#?}", outcome.reports);
}

pub async fn what_has_ended_before_counts(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let (good, bad) = (queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    succeed(&store, session.worker(), good).await;
    fail(&store, session.worker(), bad).await;
    let (fine, forsaken) = (child(&store, &[good.id]).await, child(&store, &[good.id, bad.id]).await);
    let patient = accept(&store, after(&[bad.id], AfterPolicy::Run)).await;
    assert_eq!(released(&store).await, [forsaken]);
    promoted(&store, fine).await;
    assert_eq!(waits(&store, patient).await, None);
    assert_eq!(read(&store, forsaken).await.state, State::Cancelled);
}

/// One level for each pass, each job naming the one before it.
pub async fn a_parent_that_fails_cancels_what_follows_it_and_so_on(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let (first, other) = (queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    let mut chain = vec![first.id];
    for _ in 0..5 {
        let last = *chain.last().expect("there is one");
        chain.push(child(&store, &[last, other.id]).await);
    }
    let careless = accept(&store, after(&[chain[5]], AfterPolicy::Run)).await;
    fail(&store, session.worker(), first).await;
    assert_eq!(released(&store).await, chain[1..]);
    for pair in chain.windows(2) {
        let (job, parent) = (read(&store, pair[1]).await, read(&store, pair[0]).await.state);
        let error = job.error.expect("it says why");
        let how = if parent == State::Failed { "failed" } else { "was cancelled" };
        assert_eq!((job.state, error.code.as_str(), error.attempt), (State::Cancelled, PARENT_NOT_SUCCEEDED, 0));
        assert_eq!(error.message, format!("job {}, which this one was to run after, {how}", pair[0]));
        assert_eq!((job.epoch, job.attempt, job.finished_at.is_some(), job.history.len()), (2, 0, true, 1));
        assert_eq!(job.parents.map(|parents| (parents.total, parents.waiting)), Some((2, 0)));
    }
    promoted(&store, careless).await;
    // The other ends in vain.
    succeed(&store, session.worker(), other).await;
    assert!(released(&store).await.is_empty());
    assert!(audit(db, plan()).await.is_clean());
}

pub async fn a_job_may_run_whatever_becomes_of_its_parents(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let (failed, cancelled) = (queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    let id = accept(&store, after(&[failed.id, cancelled.id], AfterPolicy::Run)).await;
    fail(&store, session.worker(), failed).await;
    released(&store).await;
    assert_eq!(waits(&store, id).await, Some(1));
    assert_eq!(store.cancel(TENANT, cancelled.id).await.expect("asked"), Some(Cancelled::Now));
    released(&store).await;
    promoted(&store, id).await;
}

pub async fn the_later_of_both_times_counts(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let parent = queue(&store, factory::job()).await;
    let at = clock::now() + TimeDelta::seconds(600);
    let in_time = NewJob { run_at: Some(at), ..after(&[parent.id], AfterPolicy::Cancel) };
    let delayed = NewJob { delay: Some(Duration::from_secs(600)), ..after(&[parent.id], AfterPolicy::Cancel) };
    let (in_time, delayed) = (accept(&store, in_time).await, accept(&store, delayed).await);
    let wanted = [read(&store, in_time).await.run_at, read(&store, delayed).await.run_at];
    assert!((wanted[0] - at).abs() < TimeDelta::milliseconds(1));
    succeed(&store, session.worker(), parent).await;
    released(&store).await;
    for (id, wanted) in [in_time, delayed].into_iter().zip(wanted) {
        let job = read(&store, id).await;
        assert_eq!(
            (job.state, job.due, job.parents.map(|parents| parents.waiting)),
            (State::Scheduled, false, Some(0))
        );
        assert!((job.run_at - wanted).abs() < TimeDelta::milliseconds(1), "{} and {wanted}", job.run_at);
    }
    assert!(promoted_page(&store).await.is_empty());
}

pub async fn a_job_that_waits_can_be_cancelled(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let parent = queue(&store, factory::job()).await;
    let id = child(&store, &[parent.id]).await;
    let grandchild = child(&store, &[id]).await;
    assert_eq!(store.cancel(TENANT, id).await.expect("asked"), Some(Cancelled::Now));
    let job = read(&store, id).await;
    assert_eq!((job.state, job.error, job.parents.map(|parents| parents.waiting)), (State::Cancelled, None, Some(0)));
    assert_eq!(released(&store).await, [grandchild]);
    succeed(&store, session.worker(), parent).await;
    assert!(released(&store).await.is_empty());
    assert_eq!(read(&store, id).await.epoch, job.epoch, "what is final stays as it is");
    assert!(audit(db, plan()).await.is_clean());
}

pub async fn parents_must_be_there_and_of_the_same_tenant(db: &impl Database) {
    let store = db.store();
    let theirs = NewJob { tenant: "other".into(), ..factory::job() };
    let (foreign, nobody) = (theirs.id, JobId::new());
    accept(&store, theirs).await;
    let own = queue(&store, factory::job()).await.id;
    assert_eq!(store.unknown(TENANT, &[foreign, own, nobody]).await.expect("asked"), [foreign, nobody]);
    let keyed =
        NewJob { idempotency: factory::idempotency("k", 1), ..after(&[foreign, own, nobody], AfterPolicy::Cancel) };
    let (plain, good) = (factory::job(), after(&[own], AfterPolicy::Cancel));
    let ids = [plain.id, keyed.id, good.id];
    let accepted = store.accept(&[plain, keyed, good]).await.expect("accepted");
    let [Accepted::New { .. }, Accepted::Orphan(missing), Accepted::New { .. }] = &accepted[..] else {
        panic!("{accepted:?}")
    };
    assert_eq!(missing, &[foreign, nobody]);
    assert!(store.job(TENANT, ids[1]).await.expect("read").is_none());
    assert_eq!(waits(&store, ids[2]).await, Some(1));
    // Its key was not taken; a repeated one is answered whatever it says.
    let keyed =
        |parents: &[JobId]| NewJob { idempotency: factory::idempotency("k", 1), ..after(parents, AfterPolicy::Cancel) };
    let first = accept(&store, keyed(&[own])).await;
    let repeated = store.accept(&[keyed(&[nobody])]).await.expect("accepted");
    assert!(matches!(repeated[..], [Accepted::Repeated(id)] if id == first), "{repeated:?}");
}

fn batch() -> (BatchId, Filling) {
    let batch = NewBatch { id: BatchId::new(), sealed: true, metadata: None, follow_up: None, callback: None };
    let id = batch.id;
    (id, Filling { tenant: TENANT.to_owned(), target: Target::New(Box::new(batch)), idempotency: None })
}

pub async fn jobs_of_a_batch_wait_for_each_other(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let outside = queue(&store, factory::job()).await;
    let mut jobs = vec![factory::job()];
    for _ in 0..3 {
        let last = jobs.last().expect("there is one").id;
        jobs.push(after(&[last, outside.id], AfterPolicy::Cancel));
    }
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let (id, filling) = batch();
    let Filled::Done(queued) = fill(&store, &filling, jobs).await else { panic!("it is new") };
    assert_eq!(queued.dispatches.iter().map(|dispatch| dispatch.pointer.id).collect::<Vec<_>>(), ids[..1]);
    let counts = store.batch(TENANT, id).await.expect("read").expect("there").counts;
    assert_eq!((counts.queued, counts.scheduled), (1, 3));
    assert_eq!(waits(&store, ids[1]).await, Some(2));
    succeed(&store, session.worker(), outside).await;
    succeed(&store, session.worker(), queued.dispatches[0].pointer).await;
    for next in &ids[1..] {
        released(&store).await;
        let pointer = promoted(&store, *next).await;
        succeed(&store, session.worker(), pointer).await;
    }
    let over = store.batch(TENANT, id).await.expect("read").expect("there");
    assert_eq!((over.counts.succeeded, over.finished_at.is_some()), (4, true));

    let nobody = JobId::new();
    let (id, filling) = batch();
    let refused = fill(&store, &filling, vec![factory::job(), after(&[nobody], AfterPolicy::Cancel)]).await;
    assert!(matches!(&refused, Filled::Orphans(missing) if missing == &[nobody]), "{refused:?}");
    assert!(store.batch(TENANT, id).await.expect("read").is_none());

    // A cancelled child is counted by its batch.
    let failing = queue(&store, factory::job()).await;
    let (id, filling) = batch();
    fill(&store, &filling, vec![after(&[failing.id], AfterPolicy::Cancel)]).await;
    fail(&store, session.worker(), failing).await;
    assert_eq!(released(&store).await.len(), 1);
    let over = store.batch(TENANT, id).await.expect("read").expect("there");
    assert_eq!((over.counts.cancelled, over.finished_at.is_some()), (1, true));
    assert!(audit(db, plan()).await.is_clean());
}

/// A lazy end, a claimed one, a handler's commit, a reaper, a client: before or after the row was read.
pub async fn every_way_to_an_end_is_told(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let mut children = Vec::new();
    let parent = queue(&store, factory::job()).await;
    children.push(child(&store, &[parent.id]).await);
    succeed(&store, worker, parent).await;

    let lease = running(&store, worker, factory::job()).await;
    children.push(child(&store, &[lease.job]).await);
    assert_eq!(finish(&store, lease, &Event::Succeed).await, APPLIED);

    let lease = running(&store, worker, factory::job()).await;
    let transaction = store.begin(&lease).await.expect("begun");
    let write = finish_of(&store, lease, &Event::Succeed).await;
    children.push(child(&store, &[lease.job]).await);
    assert!(matches!(transaction.finish(&write).await.expect("finished"), Finished::Applied(None)));

    let pointer = queue(&store, NewJob { max_attempts: 1, ..factory::job() }).await;
    let lost = accept(&store, after(&[pointer.id], AfterPolicy::Run)).await;
    claim_and_leave(&store, pointer).await;
    assert_eq!(reap(&store).await.ended, [pointer.id]);
    children.push(lost);

    let lease = running(&store, worker, factory::job()).await;
    children.push(accept(&store, after(&[lease.job], AfterPolicy::Run)).await);
    assert_eq!(store.cancel(TENANT, lease.job).await.expect("asked"), Some(Cancelled::Requested));
    assert_eq!(finish(&store, lease, &Event::Stopped).await, APPLIED);

    let failed = queue(&store, factory::job()).await;
    let again = child(&store, &[failed.id]).await;
    assert_eq!(finish(&store, lazy(worker, failed), &failing(Retry::Backoff)).await, APPLIED);
    assert!(released(&store).await.is_empty());
    assert_eq!(waits(&store, again).await, Some(1), "another attempt may follow");
    for id in children {
        assert_eq!(waits(&store, id).await, None, "{id}");
    }
}

pub async fn what_became_of_parents_is_read_within_bounds(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let (first, second, third) =
        (queue(&store, factory::job()).await, queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    let cancelled = queue(&store, factory::job()).await;
    let order = [third.id, first.id, cancelled.id, second.id];
    let id = accept(&store, after(&order, AfterPolicy::Run)).await;
    succeed(&store, worker, first).await;
    succeed(&store, worker, second).await;
    fail(&store, worker, third).await;
    store.cancel(TENANT, cancelled.id).await.expect("asked");
    released(&store).await;
    let show = |end: ParentEnd| {
        let result = end.result.map(|result| result.get().to_owned());
        (end.job, end.state, result, end.error.map(|error| error.code), end.left_out)
    };
    let ends = |bytes| {
        let store = store.clone();
        async move { store.parents(id, bytes).await.expect("read").into_iter().map(show).collect::<Vec<_>>() }
    };
    let done = Some(r#"{"done": true}"#.to_owned());
    let whole = [
        (third.id, State::Failed, None, Some("boom".to_owned()), false),
        (first.id, State::Succeeded, done.clone(), None, false),
        (cancelled.id, State::Cancelled, None, None, false),
        (second.id, State::Succeeded, done, None, false),
    ];
    assert_eq!(ends(1 << 20).await, whole);
    let none = ends(0).await;
    assert!(none.iter().all(|(_, _, result, error, left_out)| {
        result.is_none() && error.is_none() && (*left_out || none[2].0 == cancelled.id)
    }));
    assert_eq!(none.iter().filter(|end| end.4).count(), 3);
    assert!(store.parents(first.id, 1 << 20).await.expect("read").is_empty());

    // What is gone is still known to have ended so.
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    let gone: Vec<_> = whole.into_iter().map(|(id, state, ..)| (id, state, None, None, false)).collect();
    assert_eq!(ends(1 << 20).await, gone);
    promoted(&store, id).await;
}

/// Children are accepted on one connection while their parents end on others, and are told by several at once.
pub async fn racing_ends_and_children_leave_nobody_waiting(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    for _ in 0..10 {
        let mut parents = Vec::new();
        for _ in 0..8 {
            parents.push(running(&store, worker, factory::job()).await);
        }
        let ids: Vec<JobId> = parents.iter().map(|lease| lease.job).collect();
        let ending = parents.into_iter().map(|lease| {
            let store = store.clone();
            tokio::spawn(async move { finish(&store, lease, &Event::Succeed).await })
        });
        let ending: Vec<_> = ending.collect();
        let accepting = (0..4).map(|n| {
            let (store, parents) = (store.clone(), ids[n..].to_vec());
            async move { child(&store, &parents).await }
        });
        let releasing = (0..2).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { released(&store).await })
        });
        let releasing: Vec<_> = releasing.collect();
        let children = together(accepting).await;
        for ended in ending {
            assert_eq!(ended.await.expect("joined"), APPLIED);
        }
        for released in releasing {
            released.await.expect("joined");
        }
        released(&store).await;
        for id in children {
            assert_eq!(waits(&store, id).await, None);
            assert_eq!(read(&store, id).await.epoch, 2, "released once");
        }
    }
}

pub async fn a_row_that_waits_is_pruned_with_its_parents_named(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let parent = queue(&store, factory::job()).await;
    let (waiting, cancelled) = (child(&store, &[parent.id]).await, child(&store, &[parent.id]).await);
    store.cancel(TENANT, cancelled).await.expect("asked");
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert!(store.job(TENANT, cancelled).await.expect("read").is_none());
    assert_eq!(waits(&store, waiting).await, Some(1));
    succeed(&store, session.worker(), parent).await;
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert!(store.job(TENANT, parent.id).await.expect("read").is_none(), "its end is kept with what waits");
    released(&store).await;
    let pointer = promoted(&store, waiting).await;
    succeed(&store, session.worker(), pointer).await;
    store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert!(store.parents(waiting, 1).await.expect("read").is_empty());
    let orphan = store.accept(&[after(&[parent.id], AfterPolicy::Cancel)]).await.expect("accepted");
    assert!(matches!(&orphan[..], [Accepted::Orphan(missing)] if missing == &[parent.id]), "{orphan:?}");
}

pub async fn a_job_that_nobody_tells_is_found(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let dialect = db.dialect();
    let (jobs, edges, hours_ago) = (dialect.jobs(), dialect.job_parents(), dialect.in_seconds(-2 * 3600));
    let (ended, live) = (queue(&store, factory::job()).await, queue(&store, factory::job()).await);
    let (forgotten, waiting) = (child(&store, &[ended.id]).await, child(&store, &[live.id]).await);
    succeed(&store, session.worker(), ended).await;
    // Just now is no time.
    assert!(audit(db, plan()).await.is_clean());
    db.tamper(format!("DELETE FROM {}", dialect.ended_parents())).await;
    db.tamper(format!(
        "UPDATE {jobs} SET created_at = {hours_ago}, finished_at = CASE WHEN state = 'succeeded' THEN {hours_ago} END"
    ))
    .await;
    db.tamper(format!(
        "UPDATE {jobs} SET queued_at = {hours_ago}, started_at = {hours_ago} WHERE queued_at IS NOT NULL"
    ))
    .await;
    released(&store).await;
    let outcome = audit(db, plan()).await;
    let report = outcome.reports.iter().find(|report| report.check == "chains").expect("it is a check");
    assert_eq!(report.looked_at, 2);
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!(finding.jobs, [forgotten]);
    assert!(finding.problem.contains("all of its parents have been final for"), "{finding:?}");

    for (change, back, part) in [
        (
            format!("UPDATE {jobs} SET followed = (1 = 0) WHERE id = {}", dialect.id(live.id)),
            format!("UPDATE {jobs} SET followed = (1 = 1) WHERE id = {}", dialect.id(live.id)),
            "do not say that they are followed",
        ),
        (format!("DELETE FROM {edges} WHERE job_id = {}", dialect.id(waiting)), String::new(), "and 0 are named"),
    ] {
        db.tamper(change).await;
        let outcome = audit(db, plan()).await;
        let report = outcome.reports.iter().find(|report| report.check == "chains").expect("it is a check");
        let found = report.findings.iter().find(|finding| finding.jobs == [waiting]).expect("found");
        assert!(found.problem.contains(part), "{found:?}");
        if !back.is_empty() {
            db.tamper(back).await;
        }
    }
}
