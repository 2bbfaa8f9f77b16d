//! A ledger of the application's, in which each job leaves a row by the transaction that finishes it: as many rows as jobs
//! that succeeded, one for each.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::accepted::may_be_pruned;
use super::{Check, LOOK, PAGE, Report};
use crate::job::{JobId, State};
use crate::store::Result;
use crate::store::audit::{Audit, LedgerColumn, LedgerEntry, Seen};

const MISSING: &str = "the row and the success commit together, if the handler writes through its job's transaction: see that \
                       it does, and look for deletes by others";
const SURPLUS: &str = "only the run that succeeds commits its row, if the handler writes through its job's transaction: see \
                       that it does, and once per run";
const NO_ID: &str = "the ledger is to hold the ids of jobs and nothing else: name the column that does";

/// The check.
pub(super) struct Ledger {
    column: LedgerColumn,
    kind: Option<String>,
    retention: Duration,
    report: Report,
}

/// Which way the ledger is held against the jobs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// From jobs that succeeded: a row may be missing.
    ForRows,
    /// From rows: one may be too many.
    ForJobs,
}

impl Ledger {
    /// `kind` is that of the jobs that write the ledger; without, all do.
    pub(super) async fn open(
        audit: &dyn Audit,
        column: LedgerColumn,
        kind: Option<String>,
        retention: Duration,
    ) -> Result<Self> {
        let mut report = Report::new("ledger", "succeeded jobs and ledger ids");
        let blank = audit.blank_in_ledger(&column).await?;
        if blank > 0 {
            report.find([], format!("{blank} rows of the ledger hold no id"), NO_ID);
        }
        Ok(Self { column, kind, retention, report })
    }

    fn is_meant(&self, kind: &str) -> bool {
        self.kind.as_deref().is_none_or(|meant| meant == kind)
    }

    /// Holds the ledger against these jobs. What does not fit is looked at again.
    async fn check(&mut self, audit: &dyn Audit, jobs: &[JobId], looking: Looking) -> Result<()> {
        for jobs in jobs.chunks(LOOK) {
            self.report.looked_at += jobs.len() as u64;
            let odd: Vec<JobId> = self.odd(audit, jobs, looking).await?.into_iter().map(|(job, _)| job).collect();
            if odd.is_empty() {
                continue;
            }
            for (job, (problem, advice)) in self.odd(audit, &odd, looking).await? {
                self.report.find([job], problem, advice);
            }
        }
        Ok(())
    }

    async fn odd(&self, audit: &dyn Audit, jobs: &[JobId], looking: Looking) -> Result<Vec<(JobId, Wrong)>> {
        let entries = audit.in_ledger(&self.column, jobs).await?;
        let now = audit.now().await?;
        let entries = entries.iter().filter(|entry| (entry.rows == 0) == (looking == Looking::ForRows));
        let mut odd: Vec<_> = entries.filter_map(|entry| Some((entry.job, self.wrong(entry, now)?))).collect();
        odd.sort_unstable_by_key(|(job, _)| *job);
        Ok(odd)
    }

    fn wrong(&self, entry: &LedgerEntry, now: DateTime<Utc>) -> Option<Wrong> {
        match (&entry.stands, entry.rows) {
            (Some((kind, _)), _) if !self.is_meant(kind) => None,
            (Some((_, State::Succeeded)), 0) => Some(("it succeeded, and has no row".to_owned(), MISSING)),
            (Some((_, State::Succeeded)), 1) | (_, 0) => None,
            (Some((_, State::Succeeded)), rows) => Some((format!("it succeeded once, and has {rows} rows"), SURPLUS)),
            (Some((_, state)), _) => Some((format!("it is {state}, and has a row"), SURPLUS)),
            (None, _) if may_be_pruned(entry.job, self.retention, now) => None,
            (None, _) => Some(("it has a row, and there is no such job".to_owned(), SURPLUS)),
        }
    }
}

/// What is wrong, and what to do.
type Wrong = (String, &'static str);

#[async_trait]
impl Check for Ledger {
    async fn rows(&mut self, audit: &dyn Audit, page: &[Seen]) -> Result<()> {
        let rows = page.iter().filter_map(|seen| seen.row.as_ref().ok());
        let succeeded = rows.filter(|row| row.state == State::Succeeded && self.is_meant(&row.kind));
        let jobs: Vec<JobId> = succeeded.map(|row| row.id).collect();
        self.check(audit, &jobs, Looking::ForRows).await
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut next: Option<String> = None;
        loop {
            let page = audit.ledger_page(&self.column, next.as_deref(), PAGE).await?;
            self.check(audit, &page.jobs, Looking::ForJobs).await?;
            for other in page.others {
                self.report.find([], format!("{other:?} in the ledger is no id"), NO_ID);
            }
            next = page.next;
            if next.is_none() {
                return Ok(self.report.clone());
            }
        }
    }
}
