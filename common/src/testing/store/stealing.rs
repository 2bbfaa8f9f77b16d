//! Stealing: rows whose messages must have been lost.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Database;
use super::steps::{APPLIED, accept, finish, join, queue, queue_all, queued_after_losses, read, steal_all, together};
use crate::job::transition::Event;
use crate::job::{NewJob, State};
use crate::store::Steal;
use crate::testing::factory;

pub async fn stealing_claims(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let new = NewJob { payload: factory::raw(r#"{"n":  7}"#), ..factory::job() };
    let pointer = queue(&store, new).await;
    let stolen = store.steal(&steal_all(session.worker())).await.expect("stolen");
    let [(candidate, lease)] = &stolen[..] else { panic!("expected one row, not {stolen:?}") };
    assert_eq!((lease.job, lease.epoch, lease.worker), (pointer.id, pointer.epoch + 1, session.worker()));
    assert!(lease.claimed);
    // The candidate is the row as it is now: what a decision about its end has to look at.
    assert_eq!((candidate.id, candidate.state, candidate.epoch), (pointer.id, State::Running, lease.epoch));
    assert_eq!((candidate.attempt, candidate.losses, candidate.cancel_requested), (1, 0, false));
    assert_eq!(candidate.payload.get(), r#"{"n":  7}"#);
    let job = read(&store, pointer.id).await;
    assert_eq!((job.state, job.epoch, job.attempt), (State::Running, lease.epoch, 1));
    assert_eq!(job.worker, Some(session.worker()));
    assert!(job.started_at.is_some());
    assert_eq!(finish(&store, *lease, &Event::Succeed).await, APPLIED);
}

pub async fn only_what_fits_is_stolen(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let all = steal_all(session.worker());
    let mine = queue(&store, factory::job()).await.id;
    queue(&store, NewJob { lane: factory::lane("elsewhere"), ..factory::job() }).await;
    queue(&store, NewJob { kind: "nobody.runs".to_owned(), ..factory::job() }).await;
    accept(&store, NewJob { admit: false, ..factory::job() }).await;
    let patient = Steal { older_than: Some(Duration::from_secs(3600)), ..all.clone() };
    assert!(store.steal(&patient).await.expect("stolen").is_empty(), "all are younger");
    let nothing = [
        Steal { queues: Vec::new(), ..all.clone() },
        Steal { kinds: Vec::new(), ..all.clone() },
        Steal { limit: 0, ..all.clone() },
    ];
    for steal in nothing {
        assert!(store.steal(&steal).await.expect("stolen").is_empty(), "{steal:?}");
    }
    let stolen = store.steal(&all).await.expect("stolen");
    assert_eq!(stolen.into_iter().map(|(candidate, _)| candidate.id).collect::<Vec<_>>(), [mine]);
}

/// A row that lost a worker has waited twice, and there may be no message for it: it goes first.
pub async fn rows_that_lost_a_worker_go_first(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let older = queue_all(&store, &factory::jobs(3)).await;
    let lost = queued_after_losses(&store, 1).await;
    let stolen = store.steal(&Steal { limit: 2, ..steal_all(session.worker()) }).await.expect("stolen");
    let ids: Vec<_> = stolen.iter().map(|(candidate, _)| candidate.id).collect();
    assert_eq!(ids, [lost.id, older[0].id]);
    assert_eq!(stolen[0].0.losses, 1);
}

/// What may kill workers is handed out one at a time, and only to a worker that can take it.
pub async fn suspects_are_stolen_one_at_a_time(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let suspects = [queued_after_losses(&store, 2).await.id, queued_after_losses(&store, 2).await.id];
    let plain = queue(&store, factory::job()).await.id;
    let unlucky = [queued_after_losses(&store, 1).await.id, queued_after_losses(&store, 1).await.id];
    let all = steal_all(session.worker());
    let ids = async |steal: &Steal| {
        let stolen = store.steal(steal).await.expect("stolen");
        stolen.into_iter().map(|(candidate, _)| candidate.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&Steal { suspects: false, ..all.clone() }).await, [&unlucky[..], &[plain]].concat());
    let mut taken = [ids(&all).await, ids(&all).await].concat();
    taken.sort();
    assert_eq!(taken, suspects, "one each time");
    assert!(ids(&all).await.is_empty());
}

pub async fn racing_stealers_share(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let wanted: BTreeSet<_> = queue_all(&here, &factory::jobs(60)).await.iter().map(|pointer| pointer.id).collect();
    let taken = together((0..6).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let session = join(&store).await;
            let worker = session.worker();
            let mut mine = Vec::new();
            for _ in 0..12 {
                mine.extend(store.steal(&Steal { limit: 10, ..steal_all(worker) }).await.expect("stolen"));
            }
            assert!(mine.iter().all(|(_, lease)| lease.worker == worker));
            mine.into_iter().map(|(candidate, _)| candidate.id).collect::<Vec<_>>()
        }
    }))
    .await;
    let taken: Vec<_> = taken.into_iter().flatten().collect();
    assert_eq!(taken.len(), 60, "each is taken once");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), wanted);
}
