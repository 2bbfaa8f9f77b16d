//! Claims: who may run a job.

use std::collections::HashMap;
use std::time::Duration;

use super::Database;
use super::steps::{
    IMPATIENT, accept, claim, claim_of, finish, join, queue, queue_all, read, running, steal_all, together,
};
use crate::job::transition::Event;
use crate::job::{JobId, NewJob, Nonce, State, WorkerId};
use crate::store::{Claim, Claimed, Pointer};
use crate::testing::factory::{self, TENANT};

pub async fn a_claim_grants_a_lease(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    let wish = claim_of(pointer);
    let lease = store.claim(session.worker(), &[wish]).await.expect("claimed")[0].lease().expect("granted");
    assert_eq!((lease.job, lease.worker, lease.nonce), (pointer.id, session.worker(), wish.nonce));
    assert_eq!((lease.epoch, lease.claimed), (pointer.epoch + 1, true));
    let job = read(&store, pointer.id).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Running, lease.epoch, 1));
    assert_eq!(job.worker, Some(session.worker()));
    assert!(job.started_at.expect("it started") >= job.queued_at.expect("it was queued"));
    assert_eq!(job.finished_at, None);
}

pub async fn a_session_claims_like_the_store(db: &impl Database) {
    let store = db.store();
    let mut session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    let stale = Claim { epoch: pointer.epoch + 7, ..claim_of(pointer) };
    let granted = session.claim(&[stale, claim_of(pointer)]).await.expect("claimed");
    assert_eq!(granted[0], Claimed::MovedOn);
    let lease = granted[1].lease().expect("granted");
    assert_eq!((lease.worker, lease.epoch, lease.claimed), (session.worker(), pointer.epoch + 1, true));
    assert_eq!(read(&store, pointer.id).await.epoch, lease.epoch);
}

/// Eight claimers on two handles want every row, in different orders: each row is granted once.
pub async fn claim_is_exclusive(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let pointers = queue_all(&here, &factory::jobs(40)).await;
    let granted = together((0..8usize).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        let mut wanted: Vec<Pointer> = pointers.clone();
        wanted.rotate_left(n * 5);
        if n % 3 == 0 {
            wanted.reverse();
        }
        async move {
            let session = join(&store).await;
            let mut mine = Vec::new();
            for some in wanted.chunks(10) {
                let claims: Vec<_> = some.iter().map(|pointer| claim_of(*pointer)).collect();
                let answers = store.claim(session.worker(), &claims).await.expect("claimed");
                mine.extend(answers.into_iter().filter_map(Claimed::lease));
            }
            mine
        }
    }))
    .await;
    let mut holders: HashMap<JobId, WorkerId> = HashMap::new();
    for lease in granted.into_iter().flatten() {
        assert!(holders.insert(lease.job, lease.worker).is_none(), "{} was granted twice", lease.job);
    }
    assert_eq!(holders.len(), 40, "every row was granted");
    for pointer in pointers {
        let job = read(&here, pointer.id).await;
        assert_eq!((job.epoch, job.attempt, job.worker), (pointer.epoch + 1, 1, Some(holders[&pointer.id])));
    }
}

/// The reply to a claim was lost, and the worker asks again.
pub async fn a_repeated_claim_is_granted_again(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointer = queue(&store, factory::job()).await;
    let wish = claim_of(pointer);
    let first = store.claim(session.worker(), &[wish]).await.expect("claimed")[0];
    let again = store.claim(session.worker(), &[wish]).await.expect("claimed")[0];
    assert!(matches!(first, Claimed::Granted(_)), "{first:?}");
    assert_eq!(first, again);
    let job = read(&store, pointer.id).await;
    assert_eq!((job.epoch, job.attempt), (pointer.epoch + 1, 1), "it was claimed once");
    let other = store.claim(session.worker(), &[claim_of(pointer)]).await.expect("claimed")[0];
    assert_eq!(other, Claimed::MovedOn, "another run of the same worker does not get it");
}

/// What it had claimed will be taken back, and so is nothing to start on.
pub async fn a_repeated_claim_is_not_granted_once_the_worker_has_left(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let (worker, wish) = (session.worker(), claim_of(queue(&store, factory::job()).await));
    let first = store.claim(worker, &[wish]).await.expect("claimed")[0];
    assert!(matches!(first, Claimed::Granted(_)), "{first:?}");
    session.leave().await.expect("left");
    assert_eq!(store.claim(worker, &[wish]).await.expect("claimed"), [Claimed::NotAMember]);
}

/// What a worker claims after it left, or was taken for dead, it would run for nothing: it is told, so that the messages
/// of these jobs can go to others.
pub async fn only_a_member_is_granted_anything(db: &impl Database) {
    let store = db.store();
    let (left, mut reaped) = (join(&store).await, join(&store).await);
    let held = running(&store, reaped.worker(), factory::job()).await;
    let again = Claim { job: held.job, epoch: held.epoch - 1, nonce: held.nonce, running_for: Duration::ZERO };
    let left_as = left.worker();
    left.leave().await.expect("left");
    store.reap(&IMPATIENT).await.expect("reaped");
    let pointer = queue(&store, factory::job()).await;
    let before = read(&store, pointer.id).await;
    for worker in [left_as, reaped.worker(), WorkerId::new()] {
        let refused = store.claim(worker, &[claim_of(pointer), again]).await.expect("claimed");
        assert_eq!(refused, [Claimed::NotAMember; 2]);
        assert!(store.steal(&steal_all(worker)).await.expect("stolen").is_empty());
    }
    assert_eq!(reaped.claim(&[claim_of(pointer)]).await.expect("claimed"), [Claimed::NotAMember]);
    let after = read(&store, pointer.id).await;
    assert_eq!((after.state, after.epoch), (State::Queued, before.epoch), "nothing was written");
    let member = join(&store).await;
    let granted = store.claim(member.worker(), &[claim_of(pointer), again]).await.expect("claimed");
    assert!(matches!(granted[..], [Claimed::Granted(_), Claimed::MovedOn]), "{granted:?}");
}

pub async fn only_a_queued_row_at_that_epoch_is_granted(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let worker = session.worker();
    let good = queue(&store, factory::job()).await;
    let stale = Pointer { epoch: good.epoch + 1, ..queue(&store, factory::job()).await };
    let missing = Pointer { id: JobId::new(), ..good };
    let scheduled = accept(&store, NewJob { admit: false, ..factory::job() }).await;
    let scheduled = Pointer { id: scheduled, epoch: read(&store, scheduled).await.epoch, queued_at: good.queued_at };
    let running = queue(&store, factory::job()).await;
    claim(&store, worker, running).await;
    let running = Pointer { epoch: running.epoch + 1, ..running };
    let done = queue(&store, factory::job()).await;
    let lease = claim(&store, worker, done).await;
    finish(&store, lease, &Event::Succeed).await;
    let done = Pointer { epoch: done.epoch + 2, ..done };
    let cancelled = queue(&store, factory::job()).await;
    store.cancel(TENANT, cancelled.id).await.expect("cancelled");
    let cancelled_now = Pointer { epoch: cancelled.epoch + 1, ..cancelled };

    let wanted = [stale, missing, scheduled, good, running, done, cancelled, cancelled_now].map(claim_of);
    let granted = store.claim(worker, &wanted).await.expect("claimed");
    assert!(!granted.contains(&Claimed::NotAMember), "{granted:?}");
    let granted: Vec<_> = granted.into_iter().map(|answer| answer.lease().map(|lease| lease.job)).collect();
    assert_eq!(granted, [None, None, None, Some(good.id), None, None, None, None], "answered in order");
    assert!(store.claim(worker, &[]).await.expect("claimed").is_empty());
}

/// A lazy run is claimed a while after it began.
pub async fn a_late_claim_puts_the_start_back(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let pointers = queue_all(&store, &factory::jobs(2)).await;
    let claims = [
        claim_of(pointers[0]),
        Claim { running_for: Duration::from_secs(10), nonce: Nonce::new(), ..claim_of(pointers[1]) },
    ];
    store.claim(session.worker(), &claims).await.expect("claimed");
    let prompt = read(&store, pointers[0].id).await.started_at.expect("started");
    let late = read(&store, pointers[1].id).await.started_at.expect("started");
    let apart = (prompt - late).as_seconds_f64();
    assert!((9.0..11.0).contains(&apart), "one claim at the same moment, started {apart} s apart");
}
