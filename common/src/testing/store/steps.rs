//! Steps that the cases are written in: what a worker and intake do, in one line each.

use std::sync::Arc;
use std::time::Duration;

use super::Database;
use crate::RawJson;
use crate::audit::{self, Outcome, Plan};
use crate::job::transition::{Decision, Event, Failure, Retry, Snapshot, Transition, decide};
use crate::job::{Job, JobId, Lease, NewJob, Nonce, WorkerId};
use crate::retry::RetryPolicy;
use crate::store::{
    Accepted, Claim, Finish, Finished, Judge, Pointer, ReapPolicy, Reaped, Retention, Session, Steal, Store,
};
use crate::testing::eventually;
use crate::testing::factory::{self, TENANT};

/// A store as cases and their tasks share it.
pub(super) type Shared = Arc<dyn Store>;

/// The row says so now.
pub(super) const APPLIED: Finished = Finished::Applied(None);

/// Nobody is lost by silence.
pub(super) const PATIENT: ReapPolicy = ReapPolicy { lease: Duration::from_secs(3600), judge: Some(JUDGE) };

/// Everybody is lost, having been silent for no time at all.
pub(super) const IMPATIENT: ReapPolicy = ReapPolicy { lease: Duration::ZERO, judge: Some(JUDGE) };

/// Beside the fleet, and steady.
pub(super) const JUDGE: Judge = Judge { worker: WorkerId(uuid::Uuid::nil()), steady: true };

/// Nothing is kept.
pub(super) const KEEP_NOTHING: Retention =
    Retention { jobs: Duration::ZERO, files: Duration::ZERO, idempotency_keys: Duration::ZERO };

/// Accepts one job that is queued at once.
pub(super) async fn queue(store: &Shared, job: NewJob) -> Pointer {
    queue_all(store, std::slice::from_ref(&job)).await[0]
}

/// Accepts jobs that are queued at once, in one batch.
pub(super) async fn queue_all(store: &Shared, jobs: &[NewJob]) -> Vec<Pointer> {
    let accepted = store.accept(jobs).await.expect("accepted");
    let pointer = |accepted| match accepted {
        Accepted::New { dispatch: Some(dispatch), .. } => dispatch.pointer,
        other => panic!("expected a new, queued job, not {other:?}"),
    };
    accepted.into_iter().map(pointer).collect()
}

/// Accepts one job, in whatever state that leads to.
pub(super) async fn accept(store: &Shared, job: NewJob) -> JobId {
    let id = job.id;
    let accepted = store.accept(&[job]).await.expect("accepted");
    assert!(matches!(accepted[..], [Accepted::New { .. }]), "expected a new job, not {accepted:?}");
    id
}

/// A worker that offers [`factory::KIND`].
pub(super) async fn join(store: &Shared) -> Box<dyn Session> {
    store.join(&factory::worker(&[factory::KIND])).await.expect("joined")
}

/// A claim of what a pointer points at.
pub(super) fn claim_of(pointer: Pointer) -> Claim {
    Claim { job: pointer.id, epoch: pointer.epoch, nonce: Nonce::new(), running_for: Duration::ZERO }
}

/// Claims one row.
pub(super) async fn claim(store: &Shared, worker: WorkerId, pointer: Pointer) -> Lease {
    let granted = store.claim(worker, &[claim_of(pointer)]).await.expect("claimed");
    granted[0].lease().expect("the row is queued at that epoch")
}

/// Accepts a job and claims it.
pub(super) async fn running(store: &Shared, worker: WorkerId, job: NewJob) -> Lease {
    let pointer = queue(store, job).await;
    claim(store, worker, pointer).await
}

/// The lease of a lazy run, which nothing was written for yet.
pub(super) fn lazy(worker: WorkerId, pointer: Pointer) -> Lease {
    Lease { job: pointer.id, epoch: pointer.epoch, worker, nonce: Nonce::new(), claimed: false }
}

/// The row, which must be there.
pub(super) async fn read(store: &Shared, id: JobId) -> Job {
    store.job(TENANT, id).await.expect("read").expect("the row is there")
}

/// Whether all of these jobs have come to their ends.
pub(super) async fn all_final(store: &Shared, ids: &[JobId]) -> bool {
    let rows = store.fetch(ids).await.expect("read");
    rows.iter().flatten().all(|candidate| candidate.state.is_final())
}

/// What the decision looks at.
pub(super) fn snapshot(job: &Job) -> Snapshot {
    Snapshot {
        state: job.state,
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        losses: job.losses,
        cancel_requested: job.cancel_requested,
        waits: job.parents.as_ref().is_some_and(|parents| parents.waiting > 0),
    }
}

/// What the event does to the row as it is now.
pub(super) async fn decided(store: &Shared, id: JobId, event: &Event) -> Transition {
    let job = read(store, id).await;
    match decide(&snapshot(&job), event, &RetryPolicy::default(), 0.5) {
        Ok(Decision::Move(transition)) => transition,
        other => panic!("expected a transition for {event:?}, not {other:?}"),
    }
}

/// A finish that the event leads to, with a result where it succeeds.
pub(super) async fn finish_of(store: &Shared, lease: Lease, event: &Event) -> Finish {
    let transition = decided(store, lease.job, event).await;
    let result: Option<RawJson> = (*event == Event::Succeed).then(|| factory::raw(r#"{"done": true}"#));
    Finish { lease, transition, result, ran_for: Duration::from_millis(20), linked: false }
}

/// Finishes one run.
pub(super) async fn finish(store: &Shared, lease: Lease, event: &Event) -> Finished {
    let finish = finish_of(store, lease, event).await;
    finish_as(store, &finish).await
}

/// Writes one finish as it is.
pub(super) async fn finish_as(store: &Shared, finish: &Finish) -> Finished {
    let finished = store.finish(std::slice::from_ref(finish)).await.expect("written");
    assert_eq!(finished.len(), 1, "one answer per finish");
    finished.into_iter().next().expect("one")
}

/// Tells jobs of the ends of their parents until there is nothing left to tell; answers those that are cancelled by it.
pub(super) async fn released(store: &Shared) -> Vec<JobId> {
    let mut cancelled = Vec::new();
    loop {
        let released = store.release(1000).await.expect("released");
        cancelled.extend(released.cancelled);
        if !released.more {
            cancelled.sort_unstable();
            return cancelled;
        }
    }
}

/// A failed attempt that another may follow.
pub(super) fn failing(retry: Retry) -> Event {
    Event::Fail(Failure { code: "boom".into(), message: "it broke: \"quoted\" — ünïcode".into(), retry })
}

/// Stealing everything that is queued, of the default queue and kind.
pub(super) fn steal_all(worker: WorkerId) -> Steal {
    Steal {
        worker,
        queues: vec!["default".to_owned()],
        kinds: vec![factory::KIND.to_owned()],
        older_than: Some(Duration::ZERO),
        lost_older_than: Duration::ZERO,
        suspects: true,
        limit: 1000,
    }
}

/// Runs tasks at the same time, and gathers what they answer.
pub(super) async fn together<T, Fut>(tasks: impl IntoIterator<Item = Fut>) -> Vec<T>
where
    T: Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.expect("the task does not panic"));
    }
    answers
}

/// Promotes until this row is queued; a live worker must offer its kind.
pub(super) async fn promoted(store: &Shared, id: JobId) -> Pointer {
    eventually("the row is promoted", async || {
        let dispatches = store.promote(10_000, 1000).await.expect("promoted");
        dispatches.into_iter().map(|dispatch| dispatch.pointer).find(|pointer| pointer.id == id)
    })
    .await
}

/// A running row whose worker is gone.
pub(super) async fn orphaned(store: &Shared, job: NewJob) -> Lease {
    let pointer = queue(store, job).await;
    claim_and_leave(store, pointer).await
}

/// Claims a row for a worker that is gone right after.
pub(super) async fn claim_and_leave(store: &Shared, pointer: Pointer) -> Lease {
    let session = join(store).await;
    let lease = claim(store, session.worker(), pointer).await;
    session.leave().await.expect("left");
    lease
}

/// Lets reaping find every orphan, and answers what it did.
pub(super) async fn reap(store: &Shared) -> Reaped {
    store.reap(&PATIENT).await.expect("reaped")
}

/// A queued row that has lost its worker this often already.
pub(super) async fn queued_after_losses(store: &Shared, losses: u32) -> Pointer {
    let mut pointer = queue(store, factory::job()).await;
    for _ in 0..losses {
        claim_and_leave(store, pointer).await;
        let reaped = reap(store).await;
        let again = reaped.requeued.iter().find(|dispatch| dispatch.pointer.id == pointer.id);
        pointer = again.expect("it is queued again").pointer;
    }
    pointer
}

/// Promotes what is due, and answers its pointers.
pub(super) async fn promoted_page(store: &Shared) -> Vec<Pointer> {
    let dispatches = store.promote(10_000, 1000).await.expect("promoted");
    dispatches.into_iter().map(|dispatch| dispatch.pointer).collect()
}

/// An audit that has patience with everything, and none with what looks wrong.
pub(super) fn plan() -> Plan {
    let hour = Duration::from_secs(3600);
    Plan {
        retention: 24 * hour,
        lease: hour,
        window: 10_000,
        overdue: hour,
        watch: Duration::ZERO,
        accepted: Vec::new(),
        ledger: None,
        record: None,
    }
}

/// Audits the database.
pub(super) async fn audit(db: &impl Database, plan: Plan) -> Outcome {
    audit::run(&*db.audit().await, plan).await.expect("audited")
}

/// What one check found, and that no other did: the jobs, in order.
pub(super) fn found_by(outcome: &Outcome, check: &str) -> Vec<JobId> {
    let wrong: Vec<_> = outcome.reports.iter().filter(|report| !report.is_clean()).collect();
    assert!(wrong.iter().all(|report| report.check == check), "{wrong:#?}");
    let mut jobs: Vec<_> =
        wrong.iter().flat_map(|report| &report.findings).flat_map(|finding| finding.jobs.clone()).collect();
    jobs.sort_unstable();
    jobs
}

/// What one check noted.
pub(super) fn notes_of(outcome: &Outcome, check: &str) -> String {
    let report = outcome.reports.iter().find(|report| report.check == check);
    report.expect("there is such a check").notes.join("\n")
}
