//! `exec`, as jobs of a real worker.

use offload_common::job::State;
use serde_json::json;

use super::{result, submit, worker};
use crate::engine::support::Bench;

/// Says something, reports progress, and answers its payload.
pub(super) const ANSWER: &str = "echo reading >&2; echo progress 0.5 half-way >&2; cat";

/// Says that it started, and ends when it is killed.
pub(super) const WAIT: &str = "echo started >&2; exec sleep 1000";

#[tokio::test]
async fn a_programs_words_reach_the_job() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let id = submit(&bench, "test.answer", json!({"a": [1.50]})).await;
    let job = bench.reaches(id, State::Succeeded).await;
    let progress = job.progress.expect("progress");
    assert_eq!((progress.fraction, progress.message.as_deref()), (0.5, Some("half-way")));
    let lines = bench.store.logs(id, None, 10).await.expect("read");
    assert_eq!(lines.into_iter().map(|line| line.message).collect::<Vec<_>>(), ["reading"]);
    assert_eq!(result(&bench, "test.answer", json!({"b": 2})).await, json!({"b": 2}));
}

#[tokio::test]
async fn a_cancelled_program_ends() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let id = submit(&bench, "test.wait", json!({})).await;
    bench.until("progress of the program", id, |job| job.state == State::Running).await;
    bench.store.cancel(offload_common::testing::factory::TENANT, id).await.expect("asked");
    bench.reaches(id, State::Cancelled).await;
}
