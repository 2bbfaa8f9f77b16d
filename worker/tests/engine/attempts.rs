//! What an attempt can come to.

use std::time::Duration;

use offload_common::job::{NewJob, State};
use offload_common::kind::Effects;
use offload_worker::Exit;
use offload_worker::kind::JobError;
use serde_json::json;

use crate::engine::support::{Bench, job, kind, numbered};

#[tokio::test]
async fn a_job_succeeds_with_its_result() {
    let bench = Bench::new().await;
    let worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(json!({"got": n})) }))]);
    let id = bench.submit(numbered(7)).await;
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!(done.result.expect("a result").get(), r#"{"got":7}"#);
    assert_eq!((done.attempt, done.losses, done.history.len()), (1, 0, 0));
    assert!(done.worker.is_some() && done.started_at <= done.finished_at);
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn many_jobs_at_once_all_succeed() {
    let bench = Bench::new().await;
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, n| Box::pin(async move { Ok(n) }))]);
    let jobs: Vec<NewJob> = (0..500).map(numbered).collect();
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    for job in jobs {
        bench.submit(job).await;
    }
    for (n, id) in ids.into_iter().enumerate() {
        let done = bench.reaches(id, State::Succeeded).await;
        assert_eq!((done.result.expect("a result").get(), done.attempt), (n.to_string().as_str(), 1));
    }
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_and_stays_in_the_history() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Unsafe, |job, _| {
        Box::pin(async move {
            if job.attempt < 3 { Err(JobError::retry("away", "not there yet")) } else { Ok(json!(job.attempt)) }
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.attempt, done.result.expect("a result").get()), (3, "3"));
    let history: Vec<_> = done.history.iter().map(|past| (past.attempt, past.code.as_str())).collect();
    assert_eq!(history, [(1, "away"), (2, "away")]);
}

#[tokio::test]
async fn a_job_that_keeps_failing_is_given_up() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |_, _| Box::pin(async { Err(JobError::retry("away", "never there")) }));
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(NewJob { max_attempts: 3, ..job() }).await;
    let given_up = bench.reaches(id, State::Failed).await;
    assert_eq!((given_up.attempt, given_up.history.len()), (3, 3));
    let error = given_up.error.expect("an error");
    assert_eq!((error.code.as_str(), error.message.as_str(), error.attempt), ("away", "never there", 3));
}

#[tokio::test]
async fn a_final_failure_is_not_tried_again() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |_, _| Box::pin(async { Err(JobError::fail("bad_input", "no\0pe")) }));
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(job()).await;
    let failed = bench.reaches(id, State::Failed).await;
    assert_eq!((failed.attempt, failed.error.expect("an error").message.as_str()), (1, "no\u{fffd}pe"));
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_stopped() {
    let bench = Bench::new().await;
    let _worker = bench.worker(&[kind(Effects::Repeatable, |_, _| Box::pin(std::future::pending()))]);
    let id = bench.submit(NewJob { timeout: Duration::from_millis(20), max_attempts: 2, ..job() }).await;
    let failed = bench.reaches(id, State::Failed).await;
    let codes: Vec<_> = failed.history.iter().map(|past| past.code.as_str()).collect();
    assert_eq!(codes, ["timeout", "timeout"]);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_and_not_a_dead_worker() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |job, n| {
        Box::pin(async move { if job.attempt == 1 { panic!("number {n}") } else { Ok(n) } })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(numbered(3)).await;
    let done = bench.reaches(id, State::Succeeded).await;
    let past = &done.history[0];
    assert_eq!((past.code.as_str(), past.message.as_str()), ("panic", "the handler panicked: number 3"));
}

#[tokio::test]
async fn a_payload_that_always_panics_fails_after_its_attempts() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |_, n| Box::pin(async move { panic!("number {n}") }));
    let worker = bench.worker(&[handler]);
    let id = bench.submit(NewJob { max_attempts: 3, ..numbered(3) }).await;
    let failed = bench.reaches(id, State::Failed).await;
    assert_eq!((failed.error.expect("an error").code.as_str(), failed.attempt, failed.losses), ("panic", 3, 0));
    assert_eq!(failed.history.len(), 3);
    assert_eq!(worker.drain().await, Exit::Drained);
}

#[tokio::test]
async fn a_snooze_costs_no_attempt() {
    let bench = Bench::new().await;
    let (snoozed, mut times) = tokio::sync::mpsc::unbounded_channel();
    let handler = kind(Effects::Unsafe, move |job, n| {
        let snoozed = snoozed.clone();
        Box::pin(async move {
            snoozed.send(job.attempt).expect("the test listens");
            if n == 1 { Err(JobError::snooze(Duration::from_secs(3600))) } else { Ok(n) }
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(numbered(1)).await;
    assert_eq!(times.recv().await, Some(1));
    let asleep = bench.reaches(id, State::Scheduled).await;
    assert_eq!((asleep.attempt, asleep.history.len(), asleep.due), (0, 0, false));
}

#[tokio::test]
async fn compute_runs_off_the_async_threads_and_its_panic_is_caught() {
    let bench = Bench::new().await;
    let handler = kind(Effects::Repeatable, |job, n| {
        Box::pin(async move {
            let here = std::thread::current().id();
            let attempt = job.attempt;
            let work =
                move || if attempt == 1 { panic!("overheated") } else { Ok(std::thread::current().id() != here) };
            Ok(json!([n, job.compute(work).await?]))
        })
    });
    let _worker = bench.worker(&[handler]);
    let id = bench.submit(numbered(1)).await;
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.history[0].code.as_str(), done.result.expect("a result").get()), ("panic", "[1,true]"));
}
