//! Idempotency keys: one key, one job.

use std::sync::Arc;

use super::Database;
use super::steps::together;
use crate::job::{JobId, NewJob};
use crate::store::{Accepted, JobFilter, Store};
use crate::testing::factory::{self, TENANT};

fn keyed(key: &str, body: u8) -> NewJob {
    NewJob { idempotency: factory::idempotency(key, body), ..factory::job() }
}

async fn submit(store: &Arc<dyn Store>, job: NewJob) -> Accepted {
    store.accept(&[job]).await.expect("accepted").remove(0)
}

/// The job that the answer leads to.
fn led_to(accepted: &Accepted, own: JobId) -> JobId {
    match accepted {
        Accepted::New { .. } => own,
        Accepted::Repeated(first) => *first,
        other => panic!("the fingerprint is the same, and it has no unique key and no parents: {other:?}"),
    }
}

pub async fn a_repeated_key_answers_the_first_job(db: &impl Database) {
    let store = db.store();
    let (first, second) = (keyed("k", 1), keyed("k", 1));
    let (first_id, second_id) = (first.id, second.id);
    assert!(matches!(submit(&store, first).await, Accepted::New { .. }));
    let repeated = submit(&store, second).await;
    assert!(matches!(repeated, Accepted::Repeated(id) if id == first_id), "{repeated:?}");
    assert!(store.job(TENANT, second_id).await.expect("read").is_none(), "nothing was written");
}

pub async fn a_key_with_another_body_is_refused(db: &impl Database) {
    let store = db.store();
    assert!(matches!(submit(&store, keyed("k", 1)).await, Accepted::New { .. }));
    let other = keyed("k", 2);
    let id = other.id;
    assert!(matches!(submit(&store, other).await, Accepted::KeyReused));
    assert!(store.job(TENANT, id).await.expect("read").is_none(), "nothing was written");
}

pub async fn a_key_is_the_tenants_own(db: &impl Database) {
    let store = db.store();
    assert!(matches!(submit(&store, keyed("k", 1)).await, Accepted::New { .. }));
    let theirs = NewJob { tenant: "other".to_owned(), ..keyed("k", 1) };
    assert!(matches!(submit(&store, theirs).await, Accepted::New { .. }));
}

pub async fn a_key_twice_in_one_batch_counts_once(db: &impl Database) {
    let store = db.store();
    let batch = vec![keyed("k", 1), factory::job(), keyed("k", 1), keyed("k", 2), keyed("K", 1)];
    let accepted = store.accept(&batch).await.expect("accepted");
    assert!(matches!(accepted[0], Accepted::New { .. }), "{accepted:?}");
    assert!(matches!(accepted[1], Accepted::New { .. }), "{accepted:?}");
    assert!(matches!(accepted[2], Accepted::Repeated(id) if id == batch[0].id), "{accepted:?}");
    assert!(matches!(accepted[3], Accepted::KeyReused), "{accepted:?}");
    assert!(matches!(accepted[4], Accepted::New { .. }), "keys tell upper from lower case: {accepted:?}");
    assert_eq!(store.jobs(&factory::filter()).await.expect("listed").len(), 3);
}

pub async fn racing_requests_with_one_key_make_one_job(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let answers = together((0..50).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let job = keyed("k", 1);
            let own = job.id;
            let accepted = submit(&store, job).await;
            (matches!(accepted, Accepted::New { .. }), led_to(&accepted, own))
        }
    }))
    .await;
    assert_eq!(answers.iter().filter(|(new, _)| *new).count(), 1);
    assert!(answers.iter().all(|(_, id)| *id == answers[0].1), "all were led to the same job");
    assert_eq!(here.jobs(&JobFilter { limit: 10, ..factory::filter() }).await.expect("listed").len(), 1);
}

/// Batches that hold the same keys in opposite orders neither lock each other out nor double a job.
pub async fn racing_batches_with_the_same_keys_make_one_job_each(db: &impl Database) {
    let (here, there) = (db.store(), db.another().await);
    let answers = together((0..8).map(|n| {
        let store = if n % 2 == 0 { here.clone() } else { there.clone() };
        async move {
            let mut batch: Vec<_> = (0..20).map(|key| keyed(&format!("key {key}"), 1)).collect();
            if n % 3 == 0 {
                batch.reverse();
            }
            let accepted = store.accept(&batch).await.expect("accepted");
            let mut led: Vec<_> = batch
                .iter()
                .zip(&accepted)
                .map(|(job, accepted)| (job.idempotency.as_ref().expect("keyed").key.clone(), led_to(accepted, job.id)))
                .collect();
            led.sort();
            led
        }
    }))
    .await;
    assert!(answers.iter().all(|led| *led == answers[0]), "every batch was led to the same jobs");
    assert_eq!(here.jobs(&factory::filter()).await.expect("listed").len(), 20);
}
