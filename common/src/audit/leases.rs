//! Leases: what runs, runs in a worker that is there, and once.
//!
//! A row names one run, so a job never has two leases; what is left to check is that a lease ends with its worker, and that
//! no two jobs claim to be the same run. All of it happens for a while in good order: a worker has just died, or the reply
//! to a steal was lost. So it is watched for longer than reaping takes.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;

use super::watch::Watch;
use super::{Check, Report};
use crate::clock;
use crate::job::{Epoch, JobId, Nonce, WorkerId};
use crate::store::Result;
use crate::store::audit::{Audit, Member, Row, Seen};

const ORPHANED: &str = "a worker's reaper takes such a job back within seconds: look into the workers' logs for failing \
                        upkeep, and in the database for a transaction that keeps the row locked";
const SURPLUS: &str =
    "the worker gives back what it does not run after a few heartbeats: look into its log, and restart it";
const SHARED: &str = "a nonce is drawn per run, so one of these rows was copied from the other: find out what else writes \
                      to the table of jobs";

/// Running rows that are looked at. There are no more than the slots of all workers.
const MOST: u32 = 100_000;

/// The check.
pub(super) struct Leases {
    lease: Duration,
    watch: Duration,
}

impl Leases {
    pub(super) fn new(lease: Duration, watch: Duration) -> Self {
        Self { lease, watch }
    }
}

/// What is wrong with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Wrong {
    /// No worker has this id.
    Unknown(WorkerId),
    /// The worker was reaped, or left.
    Gone(WorkerId),
    /// The worker has not beaten for much longer than the lease.
    Silent(WorkerId),
    /// The worker holds more leases than it has slots.
    Surplus { worker: WorkerId, slots: u32 },
    /// The run's nonce is that of another running job.
    Shared(i64),
}

/// A lease, which no other ever is.
type Held = (JobId, Epoch);

#[async_trait]
impl Check for Leases {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("leases", "running jobs");
        let mut watch = Watch::new(self.watch);
        let mut unattended = false;
        loop {
            let rows = audit.running(MOST).await?;
            let members = audit.members().await?;
            report.looked_at = report.looked_at.max(rows.len() as u64);
            let mut suspects = shared(&rows);
            match &members {
                Some(members) => {
                    suspects.extend(held_wrongly(&rows, members, self.lease));
                    unattended |= !members.iter().any(|member| is_live(member, self.lease));
                }
                None if report.notes.is_empty() && !rows.is_empty() => report.notes.push(
                    "whether the workers of running jobs are there is known only to the process that has the folder open"
                        .to_owned(),
                ),
                None => {}
            }
            if !watch.look(clock::instant(), suspects) {
                break;
            }
            watch.pause().await;
        }
        conclude(watch.into_standing(), unattended, &mut report);
        Ok(report)
    }
}

/// Whether a worker is there, and can do something about others.
pub(super) fn is_live(member: &Member, lease: Duration) -> bool {
    !member.gone && member.silent <= lease
}

/// Leases that share their run's nonce with another.
fn shared(rows: &[Row]) -> HashSet<(Held, Wrong)> {
    let mut by_nonce: HashMap<Nonce, Vec<Held>> = HashMap::new();
    for row in rows {
        if let Some(nonce) = row.nonce {
            by_nonce.entry(nonce).or_default().push((row.id, row.epoch));
        }
    }
    let several = by_nonce.into_iter().filter(|(_, held)| held.len() > 1);
    several.flat_map(|(nonce, held)| held.into_iter().map(move |held| (held, Wrong::Shared(nonce.0)))).collect()
}

/// Leases whose worker is not there, or cannot have so many.
fn held_wrongly(rows: &[Row], members: &[Member], lease: Duration) -> HashSet<(Held, Wrong)> {
    let members: HashMap<WorkerId, &Member> = members.iter().map(|member| (member.id, member)).collect();
    let mut running: HashMap<WorkerId, usize> = HashMap::new();
    for worker in rows.iter().filter_map(|row| row.worker) {
        *running.entry(worker).or_default() += 1;
    }
    let wrong = |worker: WorkerId| match members.get(&worker) {
        None => Some(Wrong::Unknown(worker)),
        Some(member) if member.gone => Some(Wrong::Gone(worker)),
        Some(member) if member.silent > lease * 2 => Some(Wrong::Silent(worker)),
        Some(member) if running[&worker] > member.slots as usize => {
            Some(Wrong::Surplus { worker, slots: member.slots })
        }
        Some(_) => None,
    };
    rows.iter().filter_map(|row| Some(((row.id, row.epoch), wrong(row.worker?)?))).collect()
}

/// What stood to the end of the watch is wrong, unless nobody was there to put it right.
fn conclude(standing: HashSet<(Held, Wrong)>, unattended: bool, report: &mut Report) {
    let mut jobs: HashMap<Wrong, Vec<JobId>> = HashMap::new();
    for ((job, _), wrong) in standing {
        jobs.entry(wrong).or_default().push(job);
    }
    let mut jobs: Vec<_> = jobs.into_iter().collect();
    jobs.sort_unstable_by_key(|(wrong, _)| *wrong);
    for (wrong, mut jobs) in jobs {
        jobs.sort_unstable();
        let (worker, how) = match wrong {
            Wrong::Shared(nonce) => {
                // The other one may have ended since.
                if jobs.len() > 1 {
                    report.find(jobs, format!("they run under one nonce, {nonce}"), SHARED);
                }
                continue;
            }
            Wrong::Surplus { worker, slots } => {
                let held = jobs.len();
                if held > slots as usize {
                    report.find(
                        jobs,
                        format!("worker {worker} has {slots} slots, and holds these {held} jobs"),
                        SURPLUS,
                    );
                }
                continue;
            }
            Wrong::Unknown(worker) => (worker, "which is not known"),
            Wrong::Gone(worker) => (worker, "which was reaped or left"),
            Wrong::Silent(worker) => (worker, "which has been silent for more than two leases"),
        };
        if unattended {
            let count = jobs.len();
            let note = format!("{count} jobs are held by worker {worker}, {how}; no live worker takes them back");
            report.notes.push(note);
            continue;
        }
        for job in jobs {
            report.find([job], format!("running in worker {worker}, {how}"), ORPHANED);
        }
    }
}
