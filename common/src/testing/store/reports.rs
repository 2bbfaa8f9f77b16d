//! What handlers say while they run.

use super::Database;
use super::steps::{claim, finish, join, lazy, queue, read, running};
use crate::job::transition::Event;
use crate::job::{Lease, LogLine, Progress};
use crate::store::{Finished, Report, Utterance};
use crate::testing::factory::{self, line, progress};

fn said(lease: Lease, said: Vec<Utterance>) -> Report {
    Report { lease, said }
}

fn messages(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.message.as_str()).collect()
}

pub async fn progress_is_seen(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    for (n, fraction, message) in [(1, 0.25, Some("encoding “ünïcode”")), (3, 0.5, None)] {
        let steps = vec![progress(n, 0.01, Some("just before")), progress(n + 1, fraction, message)];
        store.report(&[said(lease, steps)]).await.expect("reported");
        let job = read(&store, lease.job).await;
        let last = Some(Progress { fraction, message: message.map(str::to_owned) });
        assert_eq!((job.progress, job.epoch), (last, lease.epoch), "and nothing changes hands");
    }
    store.report(&[said(lease, vec![line(5, "no progress here")])]).await.expect("reported");
    assert_eq!(read(&store, lease.job).await.progress.expect("it stays").fraction, 0.5);
    let lines = store.logs(lease.job, None, 10).await.expect("read");
    assert_eq!(messages(&lines), ["no progress here"], "progress is no line");
    finish(&store, lease, &Event::Succeed).await;
}

pub async fn log_lines_keep_their_order_over_pages(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let other = running(&store, session.worker(), factory::job()).await;
    let spoken: Vec<_> = (0..25).map(|n| format!("line {n}: \"quoted\" ünïcode\ttab")).collect();
    let lines: Vec<_> = (1u32..).zip(&spoken).map(|(n, message)| line(n, message)).collect();
    let times: Vec<_> = lines.iter().map(|line| line.at).collect();
    let (early, late) = lines.split_at(12);
    let elsewhere = said(other, vec![line(1, "another job's")]);
    store.report(&[said(lease, early.to_vec()), elsewhere]).await.expect("reported");
    store.report(&[said(lease, late.to_vec())]).await.expect("reported");

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.logs(lease.job, after, 10).await.expect("read");
        let Some(last) = page.last() else { break };
        let (epoch, n) = last.id.split_once('-').expect("<epoch>-<n>");
        after = Some((epoch.parse().expect("a number"), n.parse().expect("a number")));
        assert!(page.len() <= 10);
        seen.extend(page);
    }
    assert_eq!(messages(&seen), spoken.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(seen.iter().map(|line| line.at).collect::<Vec<_>>(), times);
    assert_eq!(seen[3].id, format!("{}-4", lease.epoch));
    assert!(seen.iter().all(|line| line.level == "info"));
}

/// The lines of a second run follow those of the first.
pub async fn a_second_run_writes_after_the_first(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let first = running(&store, session.worker(), factory::job()).await;
    store.report(&[said(first, vec![line(1, "a"), line(2, "b")])]).await.expect("reported");
    let released = finish(&store, first, &Event::Release).await;
    let Finished::Applied(Some(pointer)) = released else { panic!("expected a pointer, not {released:?}") };
    let second = claim(&store, session.worker(), pointer).await;
    store.report(&[said(second, vec![line(1, "c")])]).await.expect("reported");
    let lines = store.logs(first.job, None, 100).await.expect("read");
    assert_eq!(messages(&lines), ["a", "b", "c"]);
}

/// The reply to a report was lost, and the worker sends it again.
pub async fn a_repeated_report_is_written_once(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let lease = running(&store, session.worker(), factory::job()).await;
    let report = said(lease, vec![line(1, "a"), line(2, "b")]);
    store.report(std::slice::from_ref(&report)).await.expect("reported");
    store.report(std::slice::from_ref(&report)).await.expect("reported again");
    assert_eq!(messages(&store.logs(lease.job, None, 100).await.expect("read")), ["a", "b"]);
}

pub async fn a_lost_lease_says_nothing(db: &impl Database) {
    let store = db.store();
    let session = join(&store).await;
    let ended = running(&store, session.worker(), factory::job()).await;
    finish(&store, ended, &Event::Succeed).await;
    let good = running(&store, session.worker(), factory::job()).await;
    let unclaimed = lazy(session.worker(), queue(&store, factory::job()).await);
    let zombies =
        [ended, Lease { epoch: ended.epoch + 1, ..ended }, Lease { epoch: good.epoch - 1, ..good }, unclaimed];
    let speak = |lease| said(lease, vec![progress(1, 0.9, None), line(2, "heard")]);
    let reports: Vec<_> = zombies.iter().copied().chain([good]).map(speak).collect();
    store.report(&reports).await.expect("reported");
    for job in [ended.job, unclaimed.job] {
        assert!(store.logs(job, None, 100).await.expect("read").is_empty());
        assert_eq!(read(&store, job).await.progress, None);
    }
    assert_eq!(messages(&store.logs(good.job, None, 100).await.expect("read")), ["heard"], "in the same batch");
    assert!(store.logs(crate::job::JobId::new(), None, 100).await.expect("read").is_empty());
}
