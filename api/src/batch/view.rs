//! What clients see of a batch.

use offload_common::job::{BatchId, JobId};
use offload_common::store::{Batch, Counts, Failed};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::batch_path;
use crate::problem::FieldError;
use crate::timestamp::Timestamp;
use crate::view::ErrorView;

/// A batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Batch")]
pub(crate) struct BatchView<'a> {
    /// A UUIDv7: ids sort by time of creation.
    id: BatchId,
    /// How many jobs it has; one that was run again counts twice.
    total: u64,
    /// How many of them are in each state.
    counts: CountsView,
    /// How far it has come.
    progress: BatchProgress,
    /// Whether it takes no more jobs. Only a sealed batch finishes.
    sealed: bool,
    /// Jobs that end in a second, lately; of a finished batch, over all of its time.
    rate: f64,
    /// Seconds that are left at this rate, if it goes on.
    eta_seconds: Option<f64>,
    /// Its first failed jobs, at most ten; a list leaves them out.
    errors: Vec<FailedView<'a>>,
    /// The job that followed its end.
    follow_up_job: Option<JobId>,
    /// The client's own object.
    #[serde(serialize_with = "crate::view::object")]
    #[schemars(with = "serde_json::Map<String, Value>")]
    metadata: Option<&'a RawValue>,
    /// When it was accepted.
    created_at: Timestamp,
    /// When all of its jobs were final for the first time.
    finished_at: Option<Timestamp>,
    /// Lines or jobs of this request that were left out, as `?partial=true` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<u64>,
    /// What is wrong with them, as far as the first hundred errors go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refusals: Vec<FieldError>,
    /// Jobs of this request that were left out, since a live job with their `unique_key` stands for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) matched: Option<u64>,
    /// Where to go from here.
    links: BatchLinks,
}

/// Jobs by state.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchCounts")]
struct CountsView {
    /// Due later, or waiting for their next attempt.
    scheduled: u64,
    /// Due, and not known to run.
    queued: u64,
    /// Claimed by a worker: short runs may end without ever being counted here.
    running: u64,
    /// Exact, as are the other final ones.
    succeeded: u64,
    /// Given up.
    failed: u64,
    /// Cancelled.
    cancelled: u64,
}

/// How far a batch has come.
#[derive(Serialize, JsonSchema)]
struct BatchProgress {
    /// The share of its jobs that are final, 0.0 to 1.0.
    fraction: f64,
}

/// A failed job of a batch.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "BatchError")]
struct FailedView<'a> {
    /// Which.
    job: JobId,
    /// How.
    error: Option<ErrorView<'a>>,
}

/// Where a batch leads.
#[derive(Serialize, JsonSchema)]
struct BatchLinks {
    /// The batch itself.
    #[serde(rename = "self")]
    this: String,
    /// Its jobs, newest first.
    jobs: String,
}

impl<'a> From<&'a Batch> for BatchView<'a> {
    fn from(batch: &'a Batch) -> Self {
        let this = batch_path(batch.id);
        let ended = batch.counts.ended();
        let left = batch.total.saturating_sub(ended);
        let fraction = if batch.total == 0 {
            f64::from(u8::from(batch.finished_at.is_some()))
        } else {
            ended as f64 / batch.total as f64
        };
        Self {
            id: batch.id,
            total: batch.total,
            counts: batch.counts.into(),
            progress: BatchProgress { fraction },
            sealed: batch.sealed,
            rate: rounded(batch.rate),
            eta_seconds: (left > 0 && batch.rate > 0.0).then(|| rounded(left as f64 / batch.rate)),
            errors: batch.errors.iter().map(FailedView::from).collect(),
            follow_up_job: batch.follow_up,
            metadata: batch.metadata.as_deref(),
            created_at: batch.created_at.into(),
            finished_at: batch.finished_at.map(Timestamp),
            refused: None,
            refusals: Vec::new(),
            matched: None,
            links: BatchLinks { jobs: format!("/v1/jobs?batch_id={}", batch.id), this },
        }
    }
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        let Counts { scheduled, queued, running, succeeded, failed, cancelled } = counts;
        Self { scheduled, queued, running, succeeded, failed, cancelled }
    }
}

impl<'a> From<&'a Failed> for FailedView<'a> {
    fn from(failed: &'a Failed) -> Self {
        Self { job: failed.job, error: failed.error.as_ref().map(ErrorView::from) }
    }
}

/// Three digits are as much as there is to say.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
