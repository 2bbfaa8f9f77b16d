//! Batches count what became of their jobs, exactly.

use std::time::Duration;

use async_trait::async_trait;

use super::{Check, Report};
use crate::store::Result;
use crate::store::audit::{Audit, BatchCount, Seen};

const ADVICE: &str = "no step of Offload leads to this: find out what else writes to the tables of jobs and batches, and \
                      set the batch's counters to what its jobs say by hand";

/// Batches of one statement: each reads all of its jobs.
const PAGE: u32 = 20;

/// The check.
pub(super) struct Batches {
    retention: Duration,
}

impl Batches {
    /// Finished jobs are kept for `retention`.
    pub(super) fn new(retention: Duration) -> Self {
        Self { retention }
    }

    fn wrong(&self, batch: &BatchCount) -> Option<String> {
        let BatchCount { total, counted, found, unfinished, sealed, finished, .. } = *batch;
        let ended: i64 = counted.iter().sum();
        // Of what is older than that, jobs may be gone already.
        let complete = batch.age < self.retention;
        let fits = |n: usize| if complete { counted[n] == found[n] } else { counted[n] >= found[n] };
        if unfinished != total - ended {
            return Some(format!("{unfinished} of its jobs are not final, and it counts {ended} ends of {total}"));
        }
        if !(0..3).all(fits) {
            return Some(format!(
                "{found:?} of its jobs have succeeded, failed and been cancelled, and it counts {counted:?}"
            ));
        }
        (sealed && ended >= total && !finished).then(|| "all of its jobs are final, and it was not finished".to_owned())
    }
}

#[async_trait]
impl Check for Batches {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("batches", "batches");
        let mut last = None;
        loop {
            let page = audit.batches(last, PAGE).await?;
            let Some(batch) = page.last() else { return Ok(report) };
            last = Some(batch.id);
            report.looked_at += page.len() as u64;
            for batch in &page {
                if let Some(problem) = self.wrong(batch) {
                    report.find([], format!("batch {}: {problem}", batch.id), ADVICE);
                }
            }
        }
    }
}
