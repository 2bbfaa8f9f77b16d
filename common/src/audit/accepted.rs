//! Jobs that were accepted are there, unless they are past their retention.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Check, LOOK, PAGE, Report};
use crate::job::JobId;
use crate::store::Result;
use crate::store::audit::{Audit, KeyUse, Seen};

const ADVICE: &str = "an accepted job is removed by nothing but pruning after jobs.retention_days: look for deletes by \
                      others, a restored backup, a failover that lost commits, or a retention that was shorter before";

/// An id carries the clock of the process that made it, its row the database's. They differ by less than this.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(3600);

/// The check.
pub(super) struct Accepted {
    retention: Duration,
    named: Vec<JobId>,
    report: Report,
}

impl Accepted {
    /// `named` are ids that were answered to clients, beside those that the database remembers with idempotency keys.
    pub(super) fn new(retention: Duration, named: Vec<JobId>) -> Self {
        Self { retention, named, report: Report::new("accepted", "accepted ids") }
    }

    async fn keys(&mut self, audit: &dyn Audit) -> Result<()> {
        let mut last: Option<KeyUse> = None;
        loop {
            let page = audit.keys(last.as_ref(), PAGE).await?;
            self.report.looked_at += page.len() as u64;
            for used in page.iter().filter(|used| !used.present && used.age < self.retention) {
                // Keys are written with their jobs, and looked up with them in one snapshot: there is nothing to look at
                // again.
                let problem = format!("idempotency key {:?} of tenant {:?} leads to no job", used.key, used.tenant);
                self.report.find([used.job], problem, ADVICE);
            }
            match page.into_iter().next_back() {
                Some(used) => last = Some(used),
                None => return Ok(()),
            }
        }
    }

    async fn named(&mut self, audit: &dyn Audit) -> Result<()> {
        let mut past = 0;
        for ids in std::mem::take(&mut self.named).chunks(LOOK) {
            self.report.looked_at += ids.len() as u64;
            let there: std::collections::HashSet<JobId> = audit.look(ids).await?.iter().map(|seen| seen.id).collect();
            let now = audit.now().await?;
            for id in ids.iter().filter(|id| !there.contains(id)) {
                if may_be_pruned(*id, self.retention, now) {
                    past += 1;
                } else {
                    self.report.find([*id], "it was accepted, and there is no such job", ADVICE);
                }
            }
        }
        if past > 0 {
            self.report.notes.push(format!("{past} of the named jobs are gone, and may be past their retention"));
        }
        Ok(())
    }
}

#[async_trait]
impl Check for Accepted {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        self.keys(audit).await?;
        self.named(audit).await?;
        Ok(self.report.clone())
    }
}

/// Whether a job that is gone may have finished, and been kept for the retention, since its id was made.
pub(super) fn may_be_pruned(id: JobId, retention: Duration, now: DateTime<Utc>) -> bool {
    let Some(made) = id.0.get_timestamp() else { return false };
    let (seconds, nanoseconds) = made.to_unix();
    let made = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, nanoseconds));
    let Some(made) = made else { return false };
    let kept = retention - CLOCK_DIFFERENCE.min(retention / 2);
    TimeDelta::from_std(kept).is_ok_and(|kept| now - made >= kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::{NoContext, Timestamp, Uuid};

    #[test]
    fn what_is_older_than_its_retention_may_be_gone() {
        let made = |seconds| JobId(Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, 0)));
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let day = Duration::from_secs(86_400);
        assert!(may_be_pruned(made(1_800_000_000 - 86_400), day, now));
        assert!(may_be_pruned(made(1_800_000_000 - 86_400 + 3600), day, now), "its clock may have been ahead");
        assert!(!may_be_pruned(made(1_800_000_000 - 86_400 + 3601), day, now));
        assert!(!may_be_pruned(made(1_800_000_000), Duration::from_secs(60), now), "however short the retention");
        assert!(!may_be_pruned(JobId(Uuid::from_u128(7)), day, now), "it says nothing of its age");
    }
}
