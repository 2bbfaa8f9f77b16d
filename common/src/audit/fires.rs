//! A fire happens once: what its record names is there, no other job or batch shares it, and no schedule is passed over.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::leases::is_live;
use super::watch::Watch;
use super::{Check, PAGE, Report};
use crate::clock;
use crate::job::ScheduleId;
use crate::schedule::Submitted;
use crate::store::Result;
use crate::store::audit::{Audit, LateSchedule, Seen};

const GONE: &str = "a job is written with the record of its fire, and removed by nothing but pruning: look for deletes by \
                    others, a restored backup, or a failover that lost commits";
const SHARED: &str =
    "the record of a fire is unique and written with its job: look for inserts by others, or a restored backup";
const LATE: &str = "every worker looks after schedules: look at the workers' logs for `firer`, and at /readyz of each";

/// Late schedules that one look sees at most.
const MOST: u32 = 1000;

/// The check.
pub(super) struct Fires {
    retention: Duration,
    overdue: Duration,
    lease: Duration,
    watch: Duration,
    report: Report,
}

impl Fires {
    /// A schedule that has been due for longer than `overdue`, and stays so for as long as `watch`, is late.
    pub(super) fn new(retention: Duration, overdue: Duration, lease: Duration, watch: Duration) -> Self {
        // A record and its job may be pruned a moment apart.
        let retention = retention - Duration::from_secs(3600).min(retention / 2);
        Self { retention, overdue, lease, watch, report: Report::new("fires", "fires") }
    }

    async fn records(&mut self, audit: &dyn Audit) -> Result<()> {
        let mut last = None;
        loop {
            let page = audit.fires(last, PAGE).await?;
            self.report.looked_at += page.len() as u64;
            for fire in page.iter().filter(|fire| !fire.present && fire.age < self.retention) {
                let Some(submitted) = fire.submitted else { continue };
                let (outcome, at, schedule) = (fire.outcome.as_str(), fire.fire_at, fire.schedule);
                let what = named(submitted);
                let problem = format!("schedule {schedule} says `{outcome}` of its fire at {at}, and {what} is gone");
                self.report.find(Vec::from_iter(submitted.job()), problem, GONE);
            }
            match page.last() {
                Some(fire) => last = Some((fire.schedule, fire.fire_at)),
                None => return Ok(()),
            }
        }
    }

    async fn jobs(&mut self, audit: &dyn Audit) -> Result<()> {
        let mut last = None;
        loop {
            let page = audit.fired(last, PAGE).await?;
            for fired in page.iter().filter(|fired| fired.recorded != Some(Some(fired.expected))) {
                let at = fired.fire_at.map_or_else(|| "no time".to_owned(), |at| at.to_string());
                let schedule = fired.schedule;
                match fired.recorded {
                    Some(Some(other)) => {
                        let what = named(other);
                        let problem = format!(
                            "the fire of schedule {schedule} at {at} submitted {what}, and this one is of it, too"
                        );
                        let jobs: Vec<_> = [fired.job].into_iter().chain(other.job()).collect();
                        self.report.find(jobs, problem, SHARED);
                    }
                    Some(None) => {
                        let problem = format!("the fire of schedule {schedule} at {at} says that it has no job");
                        self.report.find([fired.job], problem, SHARED);
                    }
                    None if fired.age < self.retention => {
                        let problem = format!("nothing is recorded of the fire of schedule {schedule} at {at}");
                        self.report.find([fired.job], problem, SHARED);
                    }
                    None => {}
                }
            }
            match page.last() {
                Some(fired) => last = Some((fired.schedule, fired.job)),
                None => return Ok(()),
            }
        }
    }

    async fn late(&mut self, audit: &dyn Audit) -> Result<()> {
        let mut watch = Watch::new(self.watch);
        let mut names: BTreeMap<ScheduleId, String> = BTreeMap::new();
        let mut noted = HashSet::new();
        loop {
            let late = audit.late_schedules(self.overdue, MOST).await?;
            let (troubled, late): (Vec<_>, Vec<_>) = late.into_iter().partition(|late| late.trouble.is_some());
            for LateSchedule { id, name, trouble, .. } in troubled {
                if noted.insert(id) {
                    let why = trouble.unwrap_or_default();
                    self.report.notes.push(format!("schedule {id} ({name:?}) cannot fire: {why}"));
                }
            }
            let alive = match audit.members().await? {
                Some(members) => members.iter().any(|member| is_live(member, self.lease)),
                None => false,
            };
            if !alive && !late.is_empty() {
                let count = late.len();
                self.report.notes.push(format!("{count} schedules are overdue, and no live worker is known"));
                return Ok(());
            }
            names.extend(late.iter().map(|late| (late.id, late.name.clone())));
            let standing: HashSet<(ScheduleId, DateTime<Utc>)> =
                late.iter().map(|late| (late.id, late.next_at)).collect();
            if !watch.look(clock::instant(), standing) {
                break;
            }
            watch.pause().await;
        }
        let mut standing: Vec<_> = watch.into_standing().into_iter().collect();
        standing.sort_unstable();
        for (id, next_at) in standing {
            let name = names.get(&id).map(String::as_str).unwrap_or_default();
            self.report.find(Vec::new(), format!("schedule {id} ({name:?}) has been due since {next_at}"), LATE);
        }
        Ok(())
    }
}

fn named(submitted: Submitted) -> String {
    match submitted {
        Submitted::Job(_) => "the job".to_owned(),
        Submitted::Batch(id) => format!("batch {id}"),
    }
}

#[async_trait]
impl Check for Fires {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        self.records(audit).await?;
        self.jobs(audit).await?;
        self.late(audit).await?;
        Ok(self.report.clone())
    }
}
