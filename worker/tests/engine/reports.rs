//! What handlers say while they run.

use offload_common::job::State;
use offload_common::kind::Effects;
use serde_json::json;

use crate::engine::support::{Bench, job, kind};

#[tokio::test]
async fn lines_are_kept_in_order_and_the_last_progress_is_there_at_the_end() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |job, _| {
        Box::pin(async move {
            for n in 0..50 {
                job.log("info", format!("line {n}"));
                job.progress(f64::from(n) / 50.0, format!("step {n}"));
            }
            job.progress(1.0, "done");
            Ok(json!(null))
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    let done = bench.reaches(id, State::Succeeded).await;
    let progress = done.progress.expect("progress");
    assert_eq!((progress.fraction, progress.message.as_deref()), (1.0, Some("done")));
    let lines = bench.store.logs(id, None, 1_000).await.expect("read");
    let texts: Vec<_> = lines.into_iter().map(|line| line.message).collect();
    assert_eq!(texts, (0..50).map(|n| format!("line {n}")).collect::<Vec<_>>());
}

/// However often a handler says how far it has come, what is written is little, and the last of it always.
#[tokio::test]
async fn a_flood_of_progress_is_a_trickle_in_the_database() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |job, _| {
        Box::pin(async move {
            let begun = offload_common::clock::instant();
            for n in 0..50_000u32 {
                job.progress(f64::from(n) / 50_000.0, n.to_string());
                if n % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            job.progress(1.0, "done");
            Ok(json!(begun.elapsed().as_secs_f64()))
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    let done = bench.reaches(id, State::Succeeded).await;
    let trail = bench.store.trails(&[(id, None)], 1_000).await.expect("read").remove(0).expect("it is there");
    let seconds: f64 = done.result.expect("a result").get().parse().expect("a number");
    let most = (4.0 * seconds).ceil() as usize + 1;
    assert!((1..=most).contains(&trail.said.len()), "{} in {seconds} s", trail.said.len());
    assert_eq!(trail.said.last().and_then(|said| said.fraction), Some(1.0));
}

#[tokio::test]
async fn reports_arrive_while_the_job_runs_and_claim_it() {
    let mut bench = Bench::new().await;
    bench.config.lazy_claim_seconds = 20.0;
    let handler = kind(Effects::Repeatable, |job, _| {
        Box::pin(async move {
            job.progress(0.5, "half-way");
            job.log("warn", "slow");
            job.stop().cancelled().await;
            Ok(json!(null))
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    let running = bench.until("progress", id, |job| job.progress.is_some()).await;
    assert_eq!((running.state, running.progress.map(|p| p.fraction)), (State::Running, Some(0.5)));
    assert_eq!(bench.store.logs(id, None, 10).await.expect("read")[0].message, "slow");
}

#[tokio::test]
async fn what_a_failed_attempt_said_is_kept_beside_the_next() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Unsafe, |job, _| {
        Box::pin(async move {
            job.log("info", format!("attempt {}", job.attempt));
            if job.attempt == 1 {
                panic!("once")
            }
            Ok(json!(null))
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    bench.reaches(id, State::Succeeded).await;
    let lines = bench.store.logs(id, None, 10).await.expect("read");
    assert_eq!(lines.iter().map(|line| line.message.as_str()).collect::<Vec<_>>(), ["attempt 1", "attempt 2"]);
}
