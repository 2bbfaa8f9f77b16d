//! Listing, counting, and asking what is final.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;

use super::Database;
use super::steps::{accept, failing, finish, join, orphaned, queue, queue_all, read, running};
use crate::clock;
use crate::job::transition::{Event, Retry};
use crate::job::{JobId, Lane, NewJob, Priority, State};
use crate::store::{JobFilter, LaneDepth};
use crate::testing::factory;

pub async fn a_list_is_newest_first_and_limited(db: &impl Database) {
    let store = db.store();
    let jobs = factory::jobs(10);
    queue_all(&store, &jobs).await;
    let page = store.jobs(&JobFilter { limit: 4, ..factory::filter() }).await.expect("listed");
    let newest: Vec<_> = jobs.iter().rev().take(4).map(|job| job.id).collect();
    assert_eq!(page.iter().map(|job| job.id).collect::<Vec<_>>(), newest);
}

pub async fn every_filter_narrows_the_list(db: &impl Database) {
    let store = db.store();
    let plain = queue(&store, factory::job()).await.id;
    let kind = queue(&store, NewJob { kind: "other.kind".to_owned(), ..factory::job() }).await.id;
    let laned = queue(&store, NewJob { lane: factory::lane("bulk"), ..factory::job() }).await.id;
    let tags = vec!["red".to_owned(), "it's \"green\"".to_owned()];
    let tagged = queue(&store, NewJob { tags, ..factory::job() }).await.id;
    let all = factory::filter;
    let listed = async |filter: JobFilter| -> Vec<JobId> {
        let mut ids: Vec<_> = store.jobs(&filter).await.expect("listed").iter().map(|job| job.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(all()).await, [plain, kind, laned, tagged]);
    assert_eq!(listed(JobFilter { kind: Some("other.kind".into()), ..all() }).await, [kind]);
    assert_eq!(listed(JobFilter { queue: Some("bulk".into()), ..all() }).await, [laned]);
    assert_eq!(listed(JobFilter { tag: Some("red".into()), ..all() }).await, [tagged]);
    assert_eq!(listed(JobFilter { tag: Some("it's \"green\"".into()), ..all() }).await, [tagged]);
    assert!(listed(JobFilter { tag: Some("re".into()), ..all() }).await.is_empty(), "a tag matches as a whole");
    let both = JobFilter { queue: Some("bulk".into()), kind: Some("other.kind".into()), ..all() };
    assert!(listed(both).await.is_empty(), "every given filter must match");
    assert!(listed(JobFilter { batch_id: Some(uuid::Uuid::now_v7()), ..all() }).await.is_empty());
    assert!(listed(JobFilter { schedule_id: Some(uuid::Uuid::now_v7()), ..all() }).await.is_empty());
    assert_eq!(listed(JobFilter { before: Some(laned), ..all() }).await, [plain, kind]);

    let accepted_at = read(&store, laned).await.created_at;
    let (earlier, later) = (accepted_at - TimeDelta::hours(1), accepted_at + TimeDelta::hours(1));
    assert!(listed(JobFilter { created_after: Some(accepted_at), ..all() }).await.contains(&laned), "at or after");
    assert!(!listed(JobFilter { created_before: Some(accepted_at), ..all() }).await.contains(&laned), "before");
    assert_eq!(listed(JobFilter { created_after: Some(earlier), ..all() }).await.len(), 4);
    assert_eq!(listed(JobFilter { created_before: Some(earlier), ..all() }).await.len(), 0);
    assert_eq!(listed(JobFilter { created_after: Some(later), ..all() }).await.len(), 0);
    assert_eq!(listed(JobFilter { created_before: Some(later), ..all() }).await.len(), 4);
}

/// The filter goes by what a client sees: due and not yet admitted is `queued`, waiting for a retry is `scheduled`.
pub async fn the_state_filter_goes_by_the_visible_state(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let later = Some(clock::now() + TimeDelta::hours(1));
    let scheduled = accept(&store, NewJob { run_at: later, ..factory::job() }).await;
    let waiting = accept(&store, NewJob { admit: false, ..factory::job() }).await;
    let queued = queue(&store, factory::job()).await.id;
    let run = async || running(&store, session.worker(), factory::job()).await;
    let (retrying, succeeded, failed, still_running) = (run().await, run().await, run().await, run().await);
    finish(&store, retrying, &failing(Retry::After(Duration::from_secs(600)))).await;
    finish(&store, succeeded, &Event::Succeed).await;
    finish(&store, failed, &failing(Retry::Never)).await;
    let cancelled = queue(&store, factory::job()).await.id;
    store.cancel(factory::TENANT, cancelled).await.expect("cancelled");

    for (state, expected) in [
        (State::Scheduled, vec![scheduled, retrying.job]),
        (State::Queued, vec![waiting, queued]),
        (State::Running, vec![still_running.job]),
        (State::Succeeded, vec![succeeded.job]),
        (State::Failed, vec![failed.job]),
        (State::Cancelled, vec![cancelled]),
    ] {
        let listed = store.jobs(&JobFilter { state: Some(state), ..factory::filter() }).await.expect("listed");
        let ids: BTreeSet<_> = listed.iter().map(|job| job.id).collect();
        assert_eq!(ids, expected.into_iter().collect(), "the jobs that are {state}");
        assert!(listed.iter().all(|job| job.visible_state() == state));
    }
}

pub async fn pages_neither_skip_nor_repeat_while_jobs_arrive(db: &impl Database) {
    let store = db.store();
    let jobs = factory::jobs(25);
    queue_all(&store, &jobs).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.jobs(&JobFilter { before, limit: 7, ..factory::filter() }).await.expect("listed");
        queue(&store, factory::job()).await;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|job| job.id));
    }
    assert_eq!(seen, jobs.iter().rev().map(|job| job.id).collect::<Vec<_>>());
}

pub async fn depths_count_each_lane_up_to_a_limit(db: &impl Database) {
    let store = db.store();
    let urgent = Lane { queue: "default".to_owned(), priority: Priority::High };
    queue_all(&store, &factory::jobs(5)).await;
    queue(&store, NewJob { lane: urgent.clone(), ..factory::job() }).await;
    accept(&store, NewJob { lane: urgent.clone(), admit: false, ..factory::job() }).await;
    let later = NewJob { delay: Some(Duration::from_secs(600)), ..factory::job() };
    accept(&store, later).await;
    orphaned(&store, NewJob { lane: factory::lane("busy"), ..factory::job() }).await;

    let depths = store.depths(3).await.expect("counted");
    let depth = |lane: &Lane| depths.iter().find(|depth| depth.lane == *lane).cloned();
    let normal = factory::lane("default");
    assert_eq!(depth(&normal), Some(LaneDepth { lane: normal, queued: 3, backlog: false }), "counted up to 3");
    assert_eq!(depth(&urgent), Some(LaneDepth { lane: urgent.clone(), queued: 1, backlog: true }));
    let busy = depth(&factory::lane("busy"));
    assert!(busy.is_none_or(|depth| depth.queued == 0 && !depth.backlog), "running rows are not queued");
}
