//! Each end that is asked for was told of, by exactly one job.

use std::time::Duration;

use async_trait::async_trait;

use super::{Check, PAGE, Report};
use crate::callback;
use crate::store::Result;
use crate::store::audit::{Audit, CallbackUse, Seen};

const ADVICE: &str = "a callback's job is inserted in the transaction that ends what it tells of: find out what else writes \
                      to the tables of jobs and callbacks, and tell the receiver by hand";

/// The check.
pub(super) struct Callbacks {
    retention: Duration,
}

impl Callbacks {
    /// Finished jobs are kept for `retention`.
    pub(super) fn new(retention: Duration) -> Self {
        Self { retention }
    }

    fn wrong(&self, used: &CallbackUse) -> Option<String> {
        let Some(age) = used.fired else {
            return match used.end {
                Some(event) => Some(format!("{event} has happened, and its callback was not fired")),
                None => used.gone.then(|| "its callback was not fired, and it is gone".to_owned()),
            };
        };
        // What it told of may have been pruned since.
        if used.end.is_none() && !used.gone {
            return Some("its callback was fired, and it is not final".to_owned());
        }
        match (used.end.map(|event| used.events.contains(&event)), used.job, used.kind.as_deref()) {
            (Some(true), None, _) => Some("its end is asked for, and no job tells of it".to_owned()),
            (Some(false), Some(job), _) => Some(format!("its end is not asked for, and job {job} tells of it")),
            (_, Some(job), None) if age < self.retention => Some(format!("the job that tells of it, {job}, is gone")),
            (_, Some(job), Some(kind)) if kind != callback::KIND => {
                Some(format!("job {job} is to tell of it, and is of the kind {kind}"))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl Check for Callbacks {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("callbacks", "callbacks");
        let mut last = None;
        loop {
            let page = audit.callbacks(last, PAGE).await?;
            let Some(used) = page.last() else { return Ok(report) };
            last = Some(used.subject);
            report.looked_at += page.len() as u64;
            for used in &page {
                if let Some(problem) = self.wrong(used) {
                    report.find(used.job.as_slice(), format!("the callback of {}: {problem}", used.subject), ADVICE);
                }
            }
        }
    }
}
