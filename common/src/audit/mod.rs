//! The auditor: whether a database keeps what Offload promises.
//!
//! It is a list of checks, one file each. All of them see every job once, in one pass by id, a page at a time, and then
//! ask for what else they need. It reads only, one short statement after another, and beside everything that goes on, so
//! what it judges moves: a row is judged by one snapshot of it, and what looks wrong is looked at again before it is
//! reported. What can look wrong for a while in good order (a lease whose worker has just died, a job that is late) is
//! watched ([`watch`]), and counts once it has looked wrong all the time.

mod accepted;
mod batches;
mod callbacks;
mod chains;
mod fires;
mod history;
mod ids;
mod leases;
mod ledger;
mod overdue;
mod record;
mod report;
mod rows;
mod unique;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;

pub use record::{BadRecord, Record};
pub use report::{Finding, MOST_FINDINGS, Report};

use crate::job::JobId;
use crate::store::Result;
use crate::store::audit::{Audit, LedgerColumn, Seen};

/// Rows that one statement answers at most.
const PAGE: u32 = 5000;

/// Rows that are looked at again in one statement.
const LOOK: usize = 1000;

/// What is to be checked, and by which settings the processes run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Finished jobs are kept for this long.
    pub retention: Duration,
    /// A worker that is silent for this long is reaped.
    pub lease: Duration,
    /// The rows that a lane holds in `queued`.
    pub window: u32,
    /// A job that waits for longer than this has a reason.
    pub overdue: Duration,
    /// What has looked wrong for this long is wrong.
    pub watch: Duration,
    /// Ids that were answered to clients.
    pub accepted: Vec<JobId>,
    /// A ledger, and the kind of jobs that write it; without, all do.
    pub ledger: Option<(LedgerColumn, Option<String>)>,
    /// What the audit before saw; an empty record for the first.
    pub record: Option<Record>,
}

/// What an audit came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A report per check.
    pub reports: Vec<Report>,
    /// What the next audit compares with, if [`Plan::record`] asked for it.
    pub record: Option<Record>,
}

impl Outcome {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.reports.iter().all(Report::is_clean)
    }
}

/// One check.
#[async_trait]
trait Check: Send {
    /// Sees a page of jobs. Every job comes by once.
    async fn rows(&mut self, audit: &dyn Audit, page: &[Seen]) -> Result<()>;

    /// Looks at what else there is, after the last page.
    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report>;
}

/// Audits a database.
///
/// # Errors
/// Those of the store. [`crate::store::Error::Rejected`] says that the plan names a ledger that is none.
pub async fn run(audit: &dyn Audit, plan: Plan) -> Result<Outcome> {
    let mut history = plan.record.map(|record| history::History::new(record, plan.retention));
    let mut ledger = None;
    if let Some((column, kind)) = plan.ledger {
        ledger = Some(ledger::Ledger::open(audit, column, kind, plan.retention).await?);
    }
    let mut rows = rows::Rows::new();
    let mut accepted = accepted::Accepted::new(plan.retention, plan.accepted);
    let mut leases = leases::Leases::new(plan.lease, plan.watch);
    let mut overdue = overdue::Overdue::new(plan.overdue, plan.window, plan.lease, plan.watch);
    let mut fires = fires::Fires::new(plan.retention, plan.overdue, plan.lease, plan.watch);
    let mut batches = batches::Batches::new(plan.retention);
    let mut callbacks = callbacks::Callbacks::new(plan.retention);
    let mut chains = chains::Chains::new(plan.overdue, plan.lease, plan.watch);
    let mut ids = ids::Ids;
    let mut unique = unique::Unique;
    let mut checks: Vec<&mut dyn Check> = vec![
        &mut rows,
        &mut ids,
        &mut accepted,
        &mut unique,
        &mut leases,
        &mut overdue,
        &mut fires,
        &mut batches,
        &mut callbacks,
        &mut chains,
    ];
    checks.extend(ledger.as_mut().map(|check| check as &mut dyn Check));
    checks.extend(history.as_mut().map(|check| check as &mut dyn Check));

    pass(audit, &mut checks).await?;
    // Together, since some of them watch for a while.
    let reports = try_join_all(checks.into_iter().map(|check| check.conclude(audit))).await?;
    Ok(Outcome { reports, record: history.map(history::History::into_record) })
}

/// Shows every job to every check. Those that are accepted meanwhile are left to the next audit.
async fn pass(audit: &dyn Audit, checks: &mut [&mut dyn Check]) -> Result<()> {
    let Some(newest) = audit.newest().await? else { return Ok(()) };
    let mut last = None;
    loop {
        let page = audit.page(last, newest, PAGE).await?;
        let Some(seen) = page.last() else { return Ok(()) };
        last = Some(seen.id);
        for check in &mut *checks {
            check.rows(audit, &page).await?;
        }
    }
}
