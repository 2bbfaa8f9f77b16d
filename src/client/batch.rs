//! Batches, as a client sees them.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use offload_common::job::{BatchId, JobId};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Body, Method, StatusCode};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::{ANSWER, Answer, Client, ClientError, Result};

/// How long a batch may take to get there and to be written.
const BATCH: Duration = Duration::from_secs(3600);

/// A batch.
#[derive(Debug, Deserialize)]
pub(crate) struct BatchView {
    /// Its id.
    pub(crate) id: BatchId,
    /// How many jobs it has.
    pub(crate) total: u64,
    /// Where they stand.
    pub(crate) counts: Counts,
    /// Whether it takes no more jobs.
    pub(crate) sealed: bool,
    /// Jobs that end in a second.
    pub(crate) rate: f64,
    /// Seconds that are left at that rate.
    pub(crate) eta_seconds: Option<f64>,
    /// Its first failed jobs.
    pub(crate) errors: Vec<FailedView>,
    /// The job that followed its end.
    pub(crate) follow_up_job: Option<JobId>,
    /// When it was accepted.
    pub(crate) created_at: DateTime<Utc>,
    /// When all were final for the first time.
    pub(crate) finished_at: Option<DateTime<Utc>>,
    /// Jobs of the request that were left out.
    #[serde(default)]
    pub(crate) refused: u64,
}

/// Jobs by state.
#[derive(Debug, Deserialize)]
pub(crate) struct Counts {
    pub(crate) scheduled: u64,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

/// A failed job of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct FailedView {
    /// Which.
    pub(crate) job: JobId,
    /// How.
    pub(crate) error: Option<offload_common::job::ErrorInfo>,
}

impl BatchView {
    /// How many of its jobs are final.
    pub(crate) fn ended(&self) -> u64 {
        self.counts.succeeded + self.counts.failed + self.counts.cancelled
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_over(&self) -> bool {
        self.finished_at.is_some() && self.ended() >= self.total
    }
}

impl Client {
    /// Submits a file with a job a line; `sent` hears how many bytes went out.
    pub(crate) async fn submit_batch(
        &self,
        path: &Path,
        key: &str,
        partial: bool,
        sent: impl Fn(u64) + Send + Sync + 'static,
    ) -> std::io::Result<Result<Answer<BatchView>>> {
        let pieces = ReaderStream::with_capacity(tokio::fs::File::open(path).await?, 256 << 10);
        let pieces = pieces.inspect(move |piece| sent(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
        let request = match self.request(Method::POST, "v1/batches") {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let request = if partial { request.query(&[("partial", "true")]) } else { request };
        let request = request.header(CONTENT_TYPE, "application/x-ndjson").header("Idempotency-Key", key);
        Ok(self.json(request.body(Body::wrap_stream(pieces)).timeout(BATCH)).await)
    }

    /// A batch.
    pub(crate) async fn batch(&self, id: BatchId) -> Result<Answer<BatchView>> {
        self.json(self.request(Method::GET, &format!("v1/batches/{id}"))?.timeout(ANSWER)).await
    }

    /// Cancels, retries or seals a batch.
    pub(crate) async fn change_batch(&self, id: BatchId, action: &str) -> Result<Answer<BatchView>> {
        self.json(self.request(Method::POST, &format!("v1/batches/{id}/{action}"))?.timeout(ANSWER)).await
    }

    /// Batches, newest first.
    pub(crate) async fn batches(&self, limit: u32) -> Result<Vec<Answer<BatchView>>> {
        let request = self.request(Method::GET, "v1/batches")?.query(&[("limit", limit)]);
        let response = self.send(request.timeout(ANSWER)).await?;
        self.items(response).await
    }
}

impl ClientError {
    /// Whether an earlier request with the same key is still being written.
    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self, ClientError::Refused { status: StatusCode::CONFLICT, .. })
    }
}
