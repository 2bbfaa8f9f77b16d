//! What waits for others has something to wait for.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;

use super::leases::is_live;
use super::watch::Watch;
use super::{Check, Report};
use crate::clock;
use crate::job::JobId;
use crate::store::Result;
use crate::store::audit::{Audit, Seen, WaitingJob};

const FORGOTTEN: &str = "every worker tells jobs of the ends of their parents: look at the workers' logs for `releaser`, and at \
                         /readyz of each; if they are well, cancel the job and submit it again";
const TAMPERED: &str = "a job, its parents and that these are followed are written together: find out what else writes to the tables \
                        of jobs, cancel the job and submit it again";

/// Jobs of one statement: each reads all of its parents.
const PAGE: u32 = 100;

/// The check.
pub(super) struct Chains {
    overdue: Duration,
    lease: Duration,
    watch: Duration,
}

impl Chains {
    /// A job whose parents have been final for longer than `overdue`, and that stays so for as long as `watch`, is forgotten.
    pub(super) fn new(overdue: Duration, lease: Duration, watch: Duration) -> Self {
        Self { overdue, lease, watch }
    }

    /// What keeps a job from ever hearing of an end.
    fn wrong(waiting: &WaitingJob) -> Option<String> {
        let WaitingJob { parents, named, unfollowed, .. } = *waiting;
        if named != parents {
            return Some(format!("it waits for {parents} parents, and {named} are named"));
        }
        (unfollowed > 0)
            .then(|| format!("{unfollowed} of the parents that it waits for do not say that they are followed"))
    }

    /// Looks at all jobs that wait; answers those that nothing is left to wait for, too, and how long that has been so.
    async fn look(&self, audit: &dyn Audit) -> Result<(Report, BTreeMap<JobId, Duration>)> {
        let mut report = Report::new("chains", "jobs that wait for others");
        let (mut forgotten, mut last) = (BTreeMap::new(), None);
        loop {
            let page = audit.waiting(last, PAGE).await?;
            let Some(waiting) = page.last() else { return Ok((report, forgotten)) };
            last = Some(waiting.id);
            report.looked_at += page.len() as u64;
            for waiting in &page {
                match Self::wrong(waiting) {
                    Some(problem) => report.find([waiting.id], problem, TAMPERED),
                    None if waiting.unfinished == 0 && waiting.since > self.overdue => {
                        forgotten.insert(waiting.id, waiting.since);
                    }
                    None => {}
                }
            }
        }
    }
}

#[async_trait]
impl Check for Chains {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut watch = Watch::new(self.watch);
        let (mut report, since) = loop {
            let (mut report, forgotten) = self.look(audit).await?;
            let alive = match audit.members().await? {
                Some(members) => members.iter().any(|member| is_live(member, self.lease)),
                None => false,
            };
            if !alive && !forgotten.is_empty() {
                let count = forgotten.len();
                let what = "jobs wait although all of their parents are final";
                report.notes.push(format!("{count} {what}, and no live worker is known"));
                return Ok(report);
            }
            let standing: HashSet<JobId> = forgotten.keys().copied().collect();
            if !watch.look(clock::instant(), standing) {
                break (report, forgotten);
            }
            watch.pause().await;
        };
        let mut standing: Vec<_> = watch.into_standing().into_iter().collect();
        standing.sort_unstable();
        for job in standing {
            let seconds = since.get(&job).map_or(0, Duration::as_secs);
            report.find([job], format!("it waits, and all of its parents have been final for {seconds} s"), FORGOTTEN);
        }
        Ok(report)
    }
}
