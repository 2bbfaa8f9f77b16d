//! From one audit to the next: epochs only grow, what is final stays as it is, and no job goes before its time.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::record::{Record, Stand};
use super::{Check, LOOK, Report};
use crate::job::JobId;
use crate::store::Result;
use crate::store::audit::{Audit, Row, Seen};

const ADVICE: &str = "no step of Offload does this: look for what else writes to the table of jobs, a restored backup or a \
                      failover that lost commits; if it is to be so, remove the file of --state to begin a new record";

/// The check.
pub(super) struct History {
    before: Record,
    now: Record,
    retention: Duration,
    contradicted: bool,
}

impl History {
    pub(super) fn new(before: Record, retention: Duration) -> Self {
        Self { before, now: Record::default(), retention, contradicted: false }
    }

    /// What the next audit is to compare with. A record that the database contradicts is kept, so that what was found is
    /// found again until somebody has seen to it.
    pub(super) fn into_record(self) -> Record {
        if self.contradicted { self.before } else { self.now }
    }

    async fn compare(&self, audit: &dyn Audit, ids: &[JobId]) -> Result<Vec<(JobId, String)>> {
        let rows = audit.look(ids).await?;
        let now = audit.now().await?;
        let rows: HashMap<JobId, Seen> = rows.into_iter().map(|seen| (seen.id, seen)).collect();
        let wrong = |id: &JobId| {
            let stand = self.before.get(*id)?;
            let problem = match rows.get(id) {
                Some(Seen { row: Ok(row), .. }) => contradiction(stand, row)?,
                Some(Seen { row: Err(_), .. }) => return None,
                None if may_be_gone(stand, self.before.at, self.retention, now) => return None,
                None => format!("it was {} at epoch {}, and is gone before its retention", stand.state, stand.epoch),
            };
            Some((*id, problem))
        };
        Ok(ids.iter().filter_map(wrong).collect())
    }
}

#[async_trait]
impl Check for History {
    async fn rows(&mut self, _audit: &dyn Audit, page: &[Seen]) -> Result<()> {
        for row in page.iter().filter_map(|seen| seen.row.as_ref().ok()) {
            self.now.at.get_or_insert(row.read_at);
            let Row { state, epoch, finished_at, .. } = *row;
            self.now.insert(row.id, Stand { state, epoch, finished_at });
        }
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("history", "jobs of the record");
        report.looked_at = self.before.len() as u64;
        if self.before.at.is_none() {
            report.notes.push("this is the first audit with this record: the next one compares with it".to_owned());
        }
        let ids: Vec<JobId> = self.before.jobs().map(|(id, _)| id).collect();
        for ids in ids.chunks(LOOK) {
            let suspects: Vec<JobId> = self.compare(audit, ids).await?.into_iter().map(|(id, _)| id).collect();
            if suspects.is_empty() {
                continue;
            }
            for (id, problem) in self.compare(audit, &suspects).await? {
                report.find([id], problem, ADVICE);
            }
        }
        self.contradicted = !report.is_clean();
        Ok(report)
    }
}

/// What a row says that cannot follow from where it stood.
fn contradiction(before: &Stand, row: &Row) -> Option<String> {
    let now = Stand { state: row.state, epoch: row.epoch, finished_at: row.finished_at };
    if now.epoch < before.epoch {
        return Some(format!("its epoch went back from {} to {}", before.epoch, now.epoch));
    }
    if before.state.is_final() && now != *before {
        let end = |stand: &Stand| {
            let at = stand.finished_at.map_or("never".to_owned(), |at| at.to_string());
            format!("{} at epoch {}, finished {at}", stand.state, stand.epoch)
        };
        return Some(format!("it was final ({}), and is now {}", end(before), end(&now)));
    }
    if now.epoch == before.epoch && now.state != before.state {
        return Some(format!("it was {} and is {} at the same epoch, {}", before.state, now.state, now.epoch));
    }
    None
}

/// Whether a job that is gone may have been pruned since it was seen.
fn may_be_gone(before: &Stand, seen_at: Option<DateTime<Utc>>, retention: Duration, now: DateTime<Utc>) -> bool {
    // What was not final then has finished since.
    let finished_at = before.finished_at.or(seen_at);
    let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
    finished_at.is_none_or(|at| now - at >= retention)
}
