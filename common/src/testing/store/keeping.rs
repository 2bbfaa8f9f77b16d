//! Files' records, and what pruning removes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

use super::Database;
use super::steps::{KEEP_NOTHING, accept, finish, join, lazy, queue, read, running};
use crate::clock;
use crate::job::transition::Event;
use crate::job::{FileId, JobId, NewJob, State};
use crate::store::{Accepted, FileRecord, Report, Retention};
use crate::testing::factory::{self, TENANT};

/// A job as it was accepted some days ago: its id says so.
fn old_job() -> NewJob {
    let seconds = (clock::now() - TimeDelta::days(40)).timestamp();
    let at = Timestamp::from_unix(NoContext, u64::try_from(seconds).expect("after 1970"), 0);
    NewJob { id: JobId(Uuid::new_v7(at)), ..factory::job() }
}

pub async fn a_files_record_reads_back(db: &impl Database) {
    let store = db.store();
    let file = FileRecord {
        content_type: "text/plain; name=\"größe\"".to_owned(),
        bytes: 5_000_000_000,
        created_at: DateTime::<Utc>::from_timestamp_micros(1_790_000_000_123_456).expect("a time"),
        ..factory::file()
    };
    store.add_file(&file).await.expect("added");
    assert_eq!(store.file(TENANT, file.id).await.expect("read"), Some(file.clone()));
    assert_eq!(store.file("other", file.id).await.expect("read"), None);
    assert_eq!(store.file(TENANT, FileId::new()).await.expect("read"), None);
}

pub async fn pruning_removes_what_is_past_its_retention(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = lazy(session.worker(), queue(&store, old_job()).await);
    finish(&store, lease, &Event::Succeed).await;
    let cancelled = queue(&store, old_job()).await.id;
    store.cancel(TENANT, cancelled).await.expect("cancelled");
    let file = factory::file();
    store.add_file(&file).await.expect("added");
    let keyed = || NewJob { idempotency: factory::idempotency("k", 1), ..factory::job() };
    accept(&store, keyed()).await;

    let pruned = store.prune(&KEEP_NOTHING).await.expect("pruned");
    assert_eq!((pruned.files.as_slice(), pruned.idempotency_keys), (&[file.id][..], 1));
    assert!(pruned.jobs >= 1, "{pruned:?}");
    assert!(store.job(TENANT, lease.job).await.expect("read").is_none());
    assert!(store.job(TENANT, cancelled).await.expect("read").is_none());
    assert_eq!(store.file(TENANT, file.id).await.expect("read"), None);
    let again = store.accept(&[keyed()]).await.expect("accepted");
    assert!(matches!(again[..], [Accepted::New { .. }]), "the key is free again: {again:?}");
}

pub async fn pruning_keeps_what_is_live(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let queued = queue(&store, old_job()).await.id;
    let scheduled = accept(&store, NewJob { delay: Some(Duration::from_secs(600)), ..old_job() }).await;
    let lease = running(&store, session.worker(), old_job()).await;
    store.report(&[Report { lease, said: vec![factory::line(1, "still here")] }]).await.expect("reported");
    for _ in 0..2 {
        store.prune(&KEEP_NOTHING).await.expect("pruned");
    }
    assert_eq!(read(&store, queued).await.state, State::Queued);
    assert_eq!(read(&store, scheduled).await.state, State::Scheduled);
    assert_eq!(read(&store, lease.job).await.state, State::Running);
    assert_eq!(store.logs(lease.job, None, 10).await.expect("read").len(), 1);
    assert_eq!(finish(&store, lease, &Event::Succeed).await, super::steps::APPLIED);
}

pub async fn pruning_keeps_what_is_within_its_retention(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    finish(&store, lease, &Event::Succeed).await;
    let file = factory::file();
    store.add_file(&file).await.expect("added");
    accept(&store, NewJob { idempotency: factory::idempotency("k", 1), ..factory::job() }).await;
    let day = Duration::from_secs(86_400);
    let pruned = store.prune(&Retention { jobs: day, files: day, idempotency_keys: day }).await.expect("pruned");
    assert_eq!((pruned.jobs, pruned.files.len(), pruned.idempotency_keys), (0, 0, 0));
    assert_eq!(read(&store, lease.job).await.state, State::Succeeded);
    assert!(store.file(TENANT, file.id).await.expect("read").is_some());
    let again = NewJob { idempotency: factory::idempotency("k", 1), ..factory::job() };
    let again = store.accept(&[again]).await.expect("accepted");
    assert!(matches!(again[..], [Accepted::Repeated(_)]), "{again:?}");
}

pub async fn migrating_twice_changes_nothing(db: &impl Database) {
    let store = db.store();
    let id = queue(&store, factory::job()).await.id;
    assert!(store.migrate().await.expect("migrated").is_empty(), "it was migrated before");
    store.ready().await.expect("ready");
    assert_eq!(read(&store, id).await.state, State::Queued);
}
