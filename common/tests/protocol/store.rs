//! The store of the model: rows that change as the statements of the real stores change them, each guard beside the
//! statement that it mirrors. What a row becomes is decided by the production function, what an end finds by the
//! production fence.

use offload_common::job::transition::{Decision, Event, Snapshot, Transition, WORKER_LOST, decide};
use offload_common::job::{Epoch, JobId, Lease, Nonce, State, WorkerId};
use offload_common::retry::RetryPolicy;
use offload_common::store::{Cancelled, Claimed, Fate, Fence, Finish, Finished, Pointer};
use uuid::Uuid;

use crate::world::Mutation;

/// What the reaper leaves in a row: no run's own.
pub(crate) const REAPER: Nonce = Nonce(0);

/// What distinguishes the jobs of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Its handler writes to the ledger, in the transaction of the finish.
    pub(crate) transactional: bool,
    /// Its effects bear repeating: a first run may start without a claim.
    pub(crate) repeatable: bool,
}

/// A job, with what only the invariants look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) at: Snapshot,
    pub(crate) epoch: Epoch,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) nonce: Option<Nonce>,
    /// What its handlers have written and committed.
    pub(crate) ledger: u8,
    /// Attempts that failed, by themselves.
    pub(crate) failures: u32,
    /// A client was told that the job is to be cancelled.
    pub(crate) wished: bool,
}

/// Rows and members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) rows: Vec<Row>,
    /// Workers that have joined and are neither reaped nor gone, in order.
    pub(crate) members: Vec<WorkerId>,
    pub(crate) mutation: Option<Mutation>,
}

/// The id of the job in this row.
pub(crate) fn job_id(row: usize) -> JobId {
    JobId(Uuid::from_u128(row as u128))
}

/// The row of the job with this id.
pub(crate) fn row_of(job: JobId) -> usize {
    usize::try_from(job.0.as_u128()).expect("an id of this model")
}

/// Decides, where chance has no say.
pub(crate) fn decided(at: &Snapshot, event: &Event) -> Option<Transition> {
    match decide(at, event, &RetryPolicy::default(), 0.5) {
        Ok(Decision::Move(transition)) => Some(transition),
        _ => None,
    }
}

impl Store {
    /// Inserts a job; answers its row.
    pub(crate) fn accept(&mut self, kind: Kind, max_attempts: u32, admit: bool) -> usize {
        let state = if admit { State::Queued } else { State::Scheduled };
        let at = Snapshot { state, attempt: 0, max_attempts, losses: 0, cancel_requested: false, waits: false };
        self.rows.push(Row { kind, at, epoch: 1, worker: None, nonce: None, ledger: 0, failures: 0, wished: false });
        self.rows.len() - 1
    }

    pub(crate) fn join(&mut self, worker: WorkerId) {
        self.members.push(worker);
        self.members.sort_unstable();
    }

    /// Marks a worker as reaped, or notes that it left: `liveness::MARK`, `session::leave`.
    pub(crate) fn part(&mut self, worker: WorkerId) {
        self.members.retain(|member| *member != worker);
        if self.mutation == Some(Mutation::ReapOnlyAtTheMark) {
            (0..self.rows.len()).filter(|row| self.is_orphan(*row)).collect::<Vec<_>>().into_iter().for_each(|row| {
                self.lose(row);
            });
        }
    }

    pub(crate) fn has(&self, worker: WorkerId) -> bool {
        self.members.contains(&worker)
    }

    /// `runs::CLAIM` and `runs::REFUSED`. Whether the worker is a member is as the statement's snapshot saw it, which may
    /// be a while before it writes.
    pub(crate) fn claim(&mut self, wish: &Lease, member: bool) -> Claimed {
        let row = &mut self.rows[row_of(wish.job)];
        if member && row.epoch == wish.epoch && row.at.state == State::Queued {
            row.start(wish);
        }
        let granted = row.at.state == State::Running
            && row.epoch == wish.epoch + 1
            && row.nonce == Some(wish.nonce)
            && row.worker == Some(wish.worker);
        match (member, granted) {
            (false, _) => Claimed::NotAMember,
            (true, true) => Claimed::Granted(Lease { epoch: row.epoch, claimed: true, ..*wish }),
            (true, false) => Claimed::MovedOn,
        }
    }

    /// `lanes::STEAL` of one row. It names no epoch, but a time: what was queued after the statement began is too young for
    /// it, which comes to the same. Answers the row after its claim, and the lease.
    pub(crate) fn steal(&mut self, wish: &Lease, member: bool) -> Option<(Snapshot, Lease)> {
        let row = &mut self.rows[row_of(wish.job)];
        if !member || row.at.state != State::Queued || row.epoch != wish.epoch {
            return None;
        }
        row.start(wish);
        if self.mutation == Some(Mutation::StealKeepsEpoch) {
            row.epoch -= 1;
        }
        Some((row.at, Lease { epoch: row.epoch, claimed: true, ..*wish }))
    }

    /// `finish::FINISH`, then `finish::FINISHED`; SQLite's `moves::MOVE`.
    pub(crate) fn finish(&mut self, finish: &Finish) -> Finished {
        if self.update(finish) {
            let row = &self.rows[row_of(finish.lease.job)];
            let queued = Pointer { id: finish.lease.job, epoch: row.epoch, queued_at: 0 };
            return Finished::Applied((row.at.state == State::Queued).then_some(queued));
        }
        let fence = self.fence(finish.lease.job);
        match fence.fate(finish) {
            Fate::Applied => {
                let queued = Pointer { id: finish.lease.job, epoch: fence.epoch, queued_at: 0 };
                Finished::Applied((fence.state == State::Queued).then_some(queued))
            }
            Fate::CancelRequested => Finished::CancelRequested,
            Fate::Lost => Finished::Lost,
        }
    }

    /// `transaction::finish`: what the handler wrote commits with the update of the row, or not at all.
    pub(crate) fn commit(&mut self, finish: &Finish) -> Finished {
        let updated = self.update(finish);
        let row = &mut self.rows[row_of(finish.lease.job)];
        if updated || self.mutation == Some(Mutation::TransactionIgnoresFence) {
            row.ledger += 1;
        }
        if updated { Finished::Applied(None) } else { Finished::Lost }
    }

    fn update(&mut self, finish: &Finish) -> bool {
        let mut fence = self.fence(finish.lease.job);
        match self.mutation {
            Some(Mutation::FinishIgnoresEpoch) => fence.epoch = finish.lease.epoch,
            Some(Mutation::FinishIgnoresState) if !fence.state.is_final() => {
                fence.state = if finish.lease.claimed { State::Running } else { State::Queued };
            }
            Some(Mutation::FinishIgnoresCancel) => fence.cancel_requested = false,
            _ => {}
        }
        let takes = fence.takes(finish);
        if takes {
            let row = &mut self.rows[row_of(finish.lease.job)];
            let attempt = row.at.attempt;
            row.become_(&finish.transition);
            let handed_back = row.at.state == State::Queued && finish.lease.nonce != REAPER;
            if handed_back && self.mutation == Some(Mutation::HandingBackSpendsAnAttempt) {
                row.at.attempt = attempt;
            }
            (row.worker, row.nonce) = (Some(finish.lease.worker), Some(finish.lease.nonce));
        }
        takes
    }

    /// What the fence looks at.
    pub(crate) fn fence(&self, job: JobId) -> Fence {
        let row = &self.rows[row_of(job)];
        let Snapshot { state, cancel_requested, .. } = row.at;
        Fence { state, epoch: row.epoch, nonce: row.nonce, cancel_requested }
    }

    /// `runs::DECLINE`.
    pub(crate) fn decline(&mut self, row: usize, epoch: Epoch) {
        let row = &mut self.rows[row];
        if row.epoch == epoch
            && row.at.state == State::Queued
            && let Some(transition) = decided(&row.at, &Event::Decline(std::time::Duration::ZERO))
        {
            row.become_(&transition);
        }
    }

    /// `reads::CANCEL`.
    pub(crate) fn cancel(&mut self, row: usize) -> Cancelled {
        let row = &mut self.rows[row];
        match decide(&row.at, &Event::Cancel, &RetryPolicy::default(), 0.5) {
            Ok(Decision::Move(transition)) => row.become_(&transition),
            Ok(Decision::RequestCancel) => row.at.cancel_requested = true,
            Err(_) if row.at.state != State::Cancelled => return Cancelled::TooLate(row.at.state),
            Err(_) => {}
        }
        row.wished = true;
        if row.at.state == State::Running { Cancelled::Requested } else { Cancelled::Now }
    }

    /// `lanes::PROMOTE` of one row; answers the pointer's epoch.
    pub(crate) fn promote(&mut self, row: usize) -> Option<Epoch> {
        let row = &mut self.rows[row];
        row.become_(&decided(&row.at, &Event::Promote)?);
        Some(row.epoch)
    }

    /// Whether the row is one that `reap::ORPHANS` finds.
    pub(crate) fn is_orphan(&self, row: usize) -> bool {
        let Row { at, worker, .. } = &self.rows[row];
        let gone = worker.is_none_or(|worker| !self.has(worker)) || self.mutation == Some(Mutation::ReapIgnoresMembers);
        at.state == State::Running && gone
    }

    /// `reap::take_back` of one row; answers the epoch that it is queued at, if it is.
    pub(crate) fn lose(&mut self, row: usize) -> Option<Epoch> {
        let Row { at, epoch, worker, .. } = &self.rows[row];
        let transition = decided(at, &Event::Lose)?;
        let (job, worker) = (job_id(row), worker.unwrap_or(WorkerId(Uuid::nil())));
        let lease = Lease { job, epoch: *epoch, worker, nonce: REAPER, claimed: true };
        match self.finish(&Finish {
            lease,
            transition,
            result: None,
            ran_for: std::time::Duration::ZERO,
            linked: false,
        }) {
            Finished::Applied(queued) => queued.map(|pointer| pointer.epoch),
            _ => None,
        }
    }
}

impl Row {
    fn start(&mut self, wish: &Lease) {
        if let Some(transition) = decided(&self.at, &Event::Claim) {
            self.become_(&transition);
            (self.worker, self.nonce) = (Some(wish.worker), Some(wish.nonce));
        }
    }

    fn become_(&mut self, transition: &Transition) {
        let Transition { to, attempt, losses, ref failure, .. } = *transition;
        self.at = Snapshot { state: to, attempt, losses, ..self.at };
        self.epoch += 1;
        self.failures += u32::from(failure.as_ref().is_some_and(|(code, _)| code != WORKER_LOST));
    }
}
