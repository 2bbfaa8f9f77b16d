//! Everything at once: whatever interleaves, each job comes to one end, and each hand-over has one author.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Database;
use super::steps::{
    Shared, all_final, claim_of, failing, finish_as, join, promoted_page, queue_all, read, reap, steal_all, together,
};
use crate::job::transition::{Decision, Event, Retry, decide};
use crate::job::{Epoch, JobId, Lease, State};
use crate::retry::RetryPolicy;
use crate::store::{Candidate, Finish, Finished, Steal};
use crate::testing::factory::{self, TENANT};

const JOBS: usize = 60;

/// Far more than it takes, so that a livelock fails and does not hang.
const ROUNDS: usize = 2000;

/// What one worker was told that it did: the epoch that its finish was written at, and the state it led to.
pub(super) type Deeds = Vec<(JobId, Epoch, State)>;

/// Runs what it can get, badly: some runs end, some are repeated, handed back or forgotten, while it reaps, promotes
/// and cancels in between.
pub(super) async fn misbehave(store: Shared, jobs: Vec<JobId>) -> Deeds {
    let mut session = join(&store).await;
    let mut deeds = Vec::new();
    for _ in 0..ROUNDS {
        let worker = session.worker();
        if all_final(&store, &jobs).await {
            return deeds;
        }
        let stolen = store.steal(&Steal { limit: 4, ..steal_all(worker) }).await.expect("stolen");
        if rand::random_bool(0.5) {
            // From here on reaping may take its jobs away at any moment.
            session.leave().await.expect("left");
            session = join(&store).await;
        }
        for (candidate, lease) in stolen {
            end_somehow(&store, &candidate, lease, &mut deeds).await;
        }
        match rand::random_range(0..6) {
            0 => drop(reap(&store).await),
            1 => {
                let id = jobs[rand::random_range(0..jobs.len())];
                store.cancel(TENANT, id).await.expect("asked");
            }
            _ => {
                for pointer in promoted_page(&store).await {
                    if rand::random_bool(0.5) {
                        // A message that arrives twice.
                        let worker = session.worker();
                        let granted = store.claim(worker, &[claim_of(pointer)]).await.expect("claimed")[0];
                        let late = store.claim(worker, &[claim_of(pointer)]).await.expect("claimed")[0];
                        assert!(late.lease().is_none(), "claimed twice");
                        if let (Some(lease), [Some(row)]) =
                            (granted.lease(), &store.fetch(&[pointer.id]).await.expect("read")[..])
                            && row.epoch == lease.epoch
                        {
                            end_somehow(&store, row, lease, &mut deeds).await;
                        }
                    }
                }
            }
        }
    }
    panic!("after {ROUNDS} rounds there are still jobs that have not come to an end");
}

async fn end_somehow(store: &Shared, row: &Candidate, lease: Lease, deeds: &mut Deeds) {
    let event = match rand::random_range(0..10) {
        0..5 => Event::Succeed,
        5 => failing(Retry::Never),
        6 => failing(Retry::After(Duration::ZERO)),
        7 => Event::Release,
        8 => Event::Snooze(Duration::ZERO),
        // Forgotten: reaping has to find it.
        _ => return,
    };
    let mut seen = row.snapshot();
    loop {
        let Ok(Decision::Move(transition)) = decide(&seen, &event, &RetryPolicy::default(), 0.5) else { return };
        // Retries wait for a second by the policy; here they are due at once.
        let transition =
            crate::job::transition::Transition { delay: transition.delay.map(|_| Duration::ZERO), ..transition };
        let result = (transition.to == State::Succeeded).then(|| factory::raw("1"));
        let write = Finish { lease, transition, result, ran_for: Duration::ZERO, linked: false };
        let finished = finish_as(store, &write).await;
        if rand::random_bool(0.3) && write.transition.to.is_final() {
            let again = finish_as(store, &write).await;
            assert_eq!(again, finished, "a repeated finish is answered as the first");
        }
        match finished {
            Finished::Applied(_) => return deeds.push((lease.job, lease.epoch, write.transition.to)),
            Finished::CancelRequested => seen.cancel_requested = true,
            Finished::Lost => return,
        }
    }
}

pub async fn every_job_comes_to_one_end(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let _session = join(&here).await;
    let jobs: Vec<_> = queue_all(&here, &factory::jobs(JOBS)).await.iter().map(|pointer| pointer.id).collect();
    let deeds = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        misbehave(store, jobs.clone())
    }))
    .await;
    let mut authors = BTreeMap::new();
    let mut ends: BTreeMap<JobId, State> = BTreeMap::new();
    for (job, epoch, state) in deeds.into_iter().flatten() {
        assert!(authors.insert((job, epoch), state).is_none(), "{job} was handed over twice at epoch {epoch}");
        if state.is_final() {
            assert!(ends.insert(job, state).is_none(), "{job} came to two ends");
        }
    }
    for id in jobs {
        let job = read(&here, id).await;
        assert!(job.state.is_final() && job.finished_at.is_some());
        assert_eq!(job.result.is_some(), job.state == State::Succeeded);
        match ends.get(&id) {
            Some(end) => assert_eq!(job.state, *end, "as its worker was told"),
            // Nobody finished it: a client cancelled it, or its workers were lost.
            None => assert!(matches!(job.state, State::Cancelled | State::Failed)),
        }
    }
}
