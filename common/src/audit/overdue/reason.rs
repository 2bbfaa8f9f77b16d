//! Why a job waits.

use std::collections::HashSet;
use std::time::Duration;

use crate::audit::leases::is_live;
use crate::job::transition::SUSPECT_LOSSES;
use crate::job::{Lane, State, WorkerId};
use crate::store::LaneDepth;
use crate::store::audit::{Member, Row};

/// What decides whether jobs that wait can go on.
pub(super) struct World {
    live: Vec<Member>,
    full: HashSet<Lane>,
}

/// A good reason to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    NotOffered,
    NotServed,
    SlotsTaken,
    SuspectsTakeTurns,
    LaneFull,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Reason::NotOffered => "no live worker offers the kind",
            Reason::NotServed => "no live worker serves the queue and offers the kind",
            Reason::SlotsTaken => "all slots of the workers that could run them are taken",
            Reason::SuspectsTakeTurns => "they lost workers before, and a process runs one such job at a time",
            Reason::LaneFull => "their lane is full",
        }
    }
}

/// What takes jobs that wait, one after the other: if it stands still, they are not waiting for their turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Taker {
    /// Queued jobs are started by a worker.
    Worker(WorkerId),
    /// Due jobs are queued by their lane.
    Lane(Lane),
}

impl World {
    /// `window` is what a lane holds in `queued` before it is full.
    pub(super) fn new(members: Vec<Member>, depths: Vec<LaneDepth>, lease: Duration, window: u32) -> Self {
        let full = depths.into_iter().filter(|depth| depth.queued >= u64::from(window));
        Self {
            live: members.into_iter().filter(|member| is_live(member, lease)).collect(),
            full: full.map(|depth| depth.lane).collect(),
        }
    }

    /// Who could take this job, which is queued or due, or the reason why nobody does.
    pub(super) fn takers(&self, row: &Row) -> Result<Vec<Taker>, Reason> {
        let offering: Vec<&Member> = self.live.iter().filter(|member| member.kinds.contains(&row.kind)).collect();
        if row.state == State::Scheduled {
            return match offering.is_empty() {
                true => Err(Reason::NotOffered),
                false if self.full.contains(&row.lane) => Err(Reason::LaneFull),
                false => Ok(vec![Taker::Lane(row.lane.clone())]),
            };
        }
        let mut takers = offering;
        takers.retain(|member| member.queues.contains(&row.lane.queue));
        if takers.is_empty() {
            return Err(Reason::NotServed);
        }
        takers.retain(|member| member.running < u64::from(member.slots));
        if takers.is_empty() {
            return Err(Reason::SlotsTaken);
        }
        takers.retain(|member| row.losses < i64::from(SUSPECT_LOSSES) || member.suspects == 0);
        if takers.is_empty() {
            return Err(Reason::SuspectsTakeTurns);
        }
        Ok(takers.into_iter().map(|member| Taker::Worker(member.id)).collect())
    }
}
