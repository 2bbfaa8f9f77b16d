//! Days of jobs: made ahead, kept while anything in them is unfinished, dropped whole.

use std::time::Duration;

use chrono::{Days, NaiveDate, TimeDelta};
use offload_common::clock;
use offload_common::job::{JobId, NewJob};
use offload_common::store::postgres::PostgresStore;
use offload_common::store::{Pruned, Report, Retention, Store};
use offload_common::testing::factory::{self, TENANT};
use sqlx::PgConnection;
use uuid::{NoContext, Timestamp, Uuid};

use crate::harness::{Harness, claim_of, number, queue, run, success};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A job as it was made some days ago.
fn job_made(days_ago: u64) -> NewJob {
    let at = clock::now() - TimeDelta::days(days_ago as i64);
    let stamp = Timestamp::from_unix(NoContext, at.timestamp().unsigned_abs(), at.timestamp_subsec_nanos());
    NewJob { id: JobId(Uuid::new_v7(stamp)), ..factory::job() }
}

/// Runs a job to its end, with a line in its log, as if it had ended some days ago.
async fn run_to_its_end(store: &PostgresStore, beside: &mut PgConnection, job: NewJob, days_ago: u64) {
    let id = job.id;
    let pointer = queue(store, job).await;
    let session = store.join(&factory::worker(&[factory::KIND])).await.expect("joined");
    let granted = store.claim(session.worker(), &[claim_of(pointer)]).await.expect("claimed");
    let lease = granted[0].lease().expect("granted");
    store.report(&[Report { lease, said: vec![factory::line(1, "a line")] }]).await.expect("written");
    store.finish(&[success(lease)]).await.expect("finished");
    let past =
        format!("UPDATE offload.jobs SET finished_at = finished_at - interval '{days_ago} days' WHERE id = '{id}'");
    run(beside, &past).await;
}

/// Makes the partitions of a day that is over, as the pruner did in its time.
async fn make_day(beside: &mut PgConnection, days_ago: u64) -> String {
    let day = clock::now().date_naive() - Days::new(days_ago);
    let bound = |day: NaiveDate| {
        let start = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis().unsigned_abs();
        Uuid::from_u128(u128::from(start) << 80)
    };
    let (name, from, to) = (day.format("%Y%m%d").to_string(), bound(day), bound(day + Days::new(1)));
    for (table, partition) in [("jobs", format!("jobs_{name}")), ("job_logs", format!("job_logs_{name}"))] {
        let make = format!(
            "CREATE TABLE offload.{partition} PARTITION OF offload.{table} FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        run(beside, &make).await;
    }
    format!("jobs_{name}")
}

async fn prune(store: &PostgresStore, jobs: Duration) -> Pruned {
    let retention = Retention { jobs, files: 7 * DAY, idempotency_keys: DAY };
    store.prune(&retention).await.expect("pruned")
}

async fn there(beside: &mut PgConnection, partition: &str) -> bool {
    number(beside, &format!("SELECT count(*) FROM pg_class WHERE relname = '{partition}'")).await == 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_days_to_come_are_made_ahead() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let today = clock::now().date_naive();
    let week = |n: u64| format!("jobs_{}", (today + Days::new(n)).format("%Y%m%d"));
    for ahead in [0, 1, 6] {
        assert!(there(&mut beside, &week(ahead)).await, "{ahead} days ahead");
    }
    let logs = week(3).replace("jobs", "job_logs");
    run(&mut beside, &format!("DROP TABLE offload.{}, offload.{logs}", week(3))).await;
    let other = harness.store("second");
    let (a, b) = tokio::join!(prune(&store, 7 * DAY), prune(&other, 7 * DAY));
    assert_eq!((a.jobs, b.jobs), (0, 0));
    assert!(there(&mut beside, &week(3)).await && there(&mut beside, &logs).await, "made again");
    let queued = queue(&store, factory::job()).await;
    let partition = format!("SELECT count(*) FROM offload.{} WHERE id = '{}'", week(0), queued.id);
    assert_eq!(number(&mut beside, &partition).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_goes_once_all_of_it_is_final_and_old() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let (over, busy, late) =
        (make_day(&mut beside, 10).await, make_day(&mut beside, 11).await, make_day(&mut beside, 12).await);
    run_to_its_end(&store, &mut beside, job_made(10), 9).await;
    let unfinished = queue(&store, job_made(11)).await.id;
    let finished_beside = job_made(11);
    let finished_beside_id = finished_beside.id;
    run_to_its_end(&store, &mut beside, finished_beside, 9).await;
    let finished_late = job_made(12);
    let finished_late_id = finished_late.id;
    run_to_its_end(&store, &mut beside, finished_late, 1).await;
    run(&mut beside, "ANALYZE offload.jobs").await;

    prune(&store, 7 * DAY).await;
    assert!(!there(&mut beside, &over).await, "nothing in it is of interest any more");
    assert!(!there(&mut beside, &over.replace("jobs", "job_logs")).await, "its lines went with it");
    assert!(there(&mut beside, &busy).await && there(&mut beside, &late).await);
    assert!(store.job(TENANT, unfinished).await.expect("read").is_some());
    assert!(store.job(TENANT, finished_late_id).await.expect("read").is_some(), "it finished a day ago");
    assert!(store.job(TENANT, finished_beside_id).await.expect("read").is_none(), "deleted singly");
    assert!(store.logs(finished_beside_id, None, 10).await.expect("read").is_empty());

    store.cancel(TENANT, unfinished).await.expect("cancelled");
    prune(&store, 7 * DAY).await;
    assert!(there(&mut beside, &busy).await, "its last job finished just now");
    run(&mut beside, "UPDATE offload.jobs SET finished_at = finished_at - interval '8 days'").await;
    let fresh_eyes = harness.store("second");
    prune(&fresh_eyes, 7 * DAY).await;
    assert!(!there(&mut beside, &busy).await && !there(&mut beside, &late).await);
}

/// Where nobody made a partition in time the day stays in the default one; everything works, and it is pruned by rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_without_a_partition_lives_in_the_default_one() {
    let (harness, store) = Harness::start().await;
    let mut beside = harness.connect().await;
    let today = clock::now().date_naive().format("%Y%m%d").to_string();
    run(&mut beside, &format!("DROP TABLE offload.jobs_{today}, offload.job_logs_{today}")).await;
    run_to_its_end(&store, &mut beside, factory::job(), 0).await;
    assert_eq!(number(&mut beside, "SELECT count(*) FROM offload.jobs_default").await, 1);
    let pruned = prune(&store, Duration::ZERO).await;
    assert_eq!(pruned.jobs, 1, "the partition cannot be made over it, and that stops nothing");
    assert_eq!(number(&mut beside, "SELECT count(*) FROM offload.job_logs").await, 0);
    prune(&store, DAY).await;
    assert!(there(&mut beside, &format!("jobs_{today}")).await, "now it can");
}
