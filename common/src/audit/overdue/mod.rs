//! Nothing waits for longer than it should without a reason.
//!
//! A reason is that no live worker serves the queue or offers the kind, that all slots of those that do are taken, or that
//! the lane is full. The database does not show runs that are too short to be claimed, so a slot that looks free may not
//! be, and jobs may merely wait for their turn. That is why they are watched: they are overdue if nothing else that waited
//! for the same worker, or in the same lane, went on either.

mod late;
mod reason;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::{Check, Report};
use crate::clock;
use crate::job::{Lane, State};
use crate::store::Result;
use crate::store::audit::{Audit, Row, Seen};
use late::{Late, is_late, since};
use reason::{Reason, World};

const QUEUED: &str = "an idle worker takes it from the database within seconds: look into the workers' logs and /readyz, and \
                      in the database for a transaction that keeps the row locked";
const DUE: &str = "the workers' upkeep queues it within a second: look into their logs and /readyz for failing promotion, and \
                   in the database for a transaction that keeps the row locked";

/// Waiting rows that are looked at per lane (and kind), the oldest.
const MOST: u32 = 5000;

/// A free worker starts what is queued well within this. What has waited for longer waits for a worker.
const START: Duration = Duration::from_secs(2);

/// The check.
pub(super) struct Overdue {
    limit: Duration,
    window: u32,
    lease: Duration,
    watch: Duration,
}

impl Overdue {
    pub(super) fn new(limit: Duration, window: u32, lease: Duration, watch: Duration) -> Self {
        Self { limit, window, lease, watch }
    }
}

#[async_trait]
impl Check for Overdue {
    async fn rows(&mut self, _audit: &dyn Audit, _page: &[Seen]) -> Result<()> {
        Ok(())
    }

    async fn conclude(&mut self, audit: &dyn Audit) -> Result<Report> {
        let mut report = Report::new("overdue", "late jobs");
        let new = || Late::new(self.limit, self.watch);
        let (mut queued, mut due, mut first) = (new(), new(), true);
        loop {
            let in_queue = audit.queued(START.min(self.limit), MOST).await?;
            let scheduled = audit.due(self.limit, MOST).await?;
            let late: Vec<&Row> = in_queue.iter().chain(&scheduled).filter(|row| is_late(row, self.limit)).collect();
            if first {
                report.looked_at = late.len() as u64;
            }
            if late.is_empty() {
                return Ok(report);
            }
            let Some(members) = audit.members().await? else {
                let known = "what late jobs wait for is known only to the process that has the folder open";
                report.notes.push(known.to_owned());
                return Ok(report);
            };
            let world = World::new(members, audit.depths(self.window).await?, self.lease, self.window);
            if std::mem::take(&mut first) {
                note_reasons(&late, &world, &mut report);
            }
            let now = clock::instant();
            let (one, other) = (queued.look(now, &in_queue, &world), due.look(now, &scheduled, &world));
            if !one && !other {
                break;
            }
            queued.pause().await;
        }
        conclude([queued, due], &mut report);
        Ok(report)
    }
}

/// Says what late jobs wait for that have a reason.
fn note_reasons(late: &[&Row], world: &World, report: &mut Report) {
    let mut groups: BTreeMap<(&Lane, &str, Reason), usize> = BTreeMap::new();
    for row in late {
        if let Err(reason) = world.takers(row) {
            *groups.entry((&row.lane, &row.kind, reason)).or_default() += 1;
        }
    }
    for ((lane, kind, reason), count) in groups {
        let count = if count >= MOST as usize { format!("{count} or more") } else { count.to_string() };
        report.notes.push(format!("{count} jobs of kind {kind} wait in lane {lane}: {}", reason.as_str()));
    }
}

fn conclude(watched: [Late; 2], report: &mut Report) {
    for late in watched {
        let (overdue, in_turn) = late.into_overdue();
        for row in overdue {
            let (waits, advice) = if row.state == State::Queued { ("queued", QUEUED) } else { ("due", DUE) };
            let (kind, lane, since) = (&row.kind, &row.lane, since(&row));
            let problem = format!("{waits} since {since}, of kind {kind} in lane {lane}, which could take it");
            report.find([row.id], problem, advice);
        }
        if in_turn > 0 {
            report.notes.push(format!("{in_turn} late jobs may be waiting for their turn: others were seen to go on"));
        }
    }
}
