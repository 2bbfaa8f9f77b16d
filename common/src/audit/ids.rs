//! One row per job, and so one state, one epoch and at most one lease. No query could prove that of a table that is being
//! written; its primary key does.

use async_trait::async_trait;

use super::{Check, Report};
use crate::store::Result;
use crate::store::audit::{Audit, Seen};

const ADVICE: &str = "nothing keeps two rows of one job apart: stop the processes, and restore the table's primary key";

/// The check.
pub(super) struct Ids;

#[async_trait]
impl Check for Ids {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("ids", "primary key");
        report.looked_at = 1;
        if let Some(problem) = audit.ambiguity().await? {
            report.find([], problem, ADVICE);
        }
        Ok(report)
    }
}
