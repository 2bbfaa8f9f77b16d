//! Who is a member. One process uses the file at a time, so membership lives in its memory: a beat writes nothing and
//! waits for nobody, and after a restart every worker of the life before is unknown, so its jobs are reaped at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::clock;
use crate::job::WorkerId;
use crate::store::{Worker, WorkerInfo};

/// The workers of this process.
#[derive(Default)]
pub(super) struct Fleet {
    members: Mutex<BTreeMap<WorkerId, Member>>,
}

struct Member {
    info: WorkerInfo,
    started_at: DateTime<Utc>,
    beat_at: DateTime<Utc>,
    /// The same moment on the clock that a suspended machine does not advance.
    beat: Instant,
}

impl Fleet {
    /// Takes in a worker, under a new id.
    pub(super) fn join(&self, info: WorkerInfo) -> WorkerId {
        let id = WorkerId::new();
        let (now, beat) = (clock::now(), clock::instant());
        self.members().insert(id, Member { info, started_at: now, beat_at: now, beat });
        id
    }

    /// Notes a beat; answers whether the worker is still a member.
    pub(super) fn beat(&self, id: WorkerId) -> bool {
        match self.members().get_mut(&id) {
            Some(member) => {
                (member.beat_at, member.beat) = (clock::now(), clock::instant());
                true
            }
            None => false,
        }
    }

    /// Whether this worker is a member.
    pub(super) fn has(&self, id: WorkerId) -> bool {
        self.members().contains_key(&id)
    }

    /// Lets a worker go.
    pub(super) fn leave(&self, id: WorkerId) {
        self.members().remove(&id);
    }

    /// Drops the members without a beat for this long; answers them.
    pub(super) fn reap(&self, lease: Duration) -> Vec<WorkerId> {
        let now = clock::instant();
        let lost = |_: &WorkerId, member: &mut Member| now.saturating_duration_since(member.beat) >= lease;
        self.members().extract_if(.., lost).map(|(id, _)| id).collect()
    }

    /// The members' ids.
    pub(super) fn alive(&self) -> Vec<WorkerId> {
        self.members().keys().copied().collect()
    }

    /// The kinds that a member offers.
    pub(super) fn kinds(&self) -> BTreeSet<String> {
        self.members().values().flat_map(|member| &member.info.kinds).map(|kind| kind.name.clone()).collect()
    }

    /// The members as others see them; `running` is for the caller to fill in.
    pub(super) fn workers(&self) -> Vec<Worker> {
        let worker = |(id, member): (&WorkerId, &Member)| Worker {
            id: *id,
            host: member.info.host.clone(),
            pid: member.info.pid,
            version: member.info.version.clone(),
            slots: member.info.slots,
            queues: member.info.queues.clone(),
            kinds: member.info.kinds.iter().map(|kind| kind.name.clone()).collect(),
            started_at: member.started_at,
            beat_at: member.beat_at,
            running: 0,
        };
        self.members().iter().map(worker).collect()
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
