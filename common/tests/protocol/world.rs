//! All there is at one moment: the store, the broker, the processes, and the calls that are under way between them.

use std::fmt;

use offload_common::job::transition::{Event, Failure, Retry, Snapshot};
use offload_common::job::{Epoch, Lease, Nonce, State, WorkerId};
use offload_common::store::{Fence, Finish};
use uuid::Uuid;

use crate::phase::Phase;
use crate::store::{Kind, Row, Store, decided, job_id};

/// A part of the protocol that is left out, to see that the exploration notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutation {
    FinishIgnoresEpoch,
    FinishIgnoresState,
    FinishIgnoresCancel,
    TransactionIgnoresFence,
    StealKeepsEpoch,
    ReapIgnoresMembers,
    ReapOnlyAtTheMark,
    AcknowledgedBeforeTheWrite,
    GivenBackAsDone,
    HandingBackSpendsAnAttempt,
    NobodyLooksForStrays,
    NobodySteals,
}

/// A pointer on its way, or held by a process that has not settled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) row: usize,
    pub(crate) epoch: Epoch,
    pub(crate) redelivered: bool,
}

/// What a run owes for the message that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Receipt {
    /// Nothing: no message brought it, or it is settled.
    Nothing,
    /// Its channel is gone: the broker has the message again.
    Void,
    /// This one.
    Owed(Message),
}

/// Why a handler is told to end: the worker's `StopReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stop {
    Cancelled,
    Draining,
    OutOfTouch,
    Fenced,
    LeaseLost,
}

/// What a handler came to, as the end of the run names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Succeed,
    Fail,
    Snooze,
    Release,
    Stopped,
}

impl End {
    pub(crate) fn event(self) -> Event {
        match self {
            End::Succeed => Event::Succeed,
            End::Fail => Event::Fail(Failure { code: "boom".into(), message: String::new(), retry: Retry::Backoff }),
            End::Snooze => Event::Snooze(std::time::Duration::ZERO),
            End::Release => Event::Release,
            End::Stopped => Event::Stopped,
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It is claimed first; the handler has not started.
    Entrant,
    /// The handler runs.
    Performing,
    /// The handler has ended, and the end is being written.
    Ending,
}

/// A run of a process. Where its claim stands is the worker's own machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    /// What it writes under while it is not claimed, and its nonce.
    pub(crate) lazy: Lease,
    /// The epoch that its messages are told by: that of the row when it started.
    pub(crate) epoch: Epoch,
    /// The row as it was read before the start.
    pub(crate) seen: Snapshot,
    pub(crate) phase: Phase,
    pub(crate) stage: Stage,
    pub(crate) stop: Option<Stop>,
    pub(crate) receipt: Receipt,
    /// Whether the registry knows it: no later run of the job has taken its place.
    pub(crate) entered: bool,
}

/// A worker process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) alive: bool,
    /// The membership that it beats for.
    pub(crate) session: Option<WorkerId>,
    /// Whether anything may start under it.
    pub(crate) standing: bool,
    pub(crate) draining: bool,
    pub(crate) inbox: Vec<Message>,
    pub(crate) runs: Vec<Run>,
}

/// A statement on its way to the store, which it may reach late. Without a caller nobody waits for its answer any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) caller: Option<usize>,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// With the membership as its snapshot saw it.
    Claim(Lease, bool),
    Steal(Lease, bool),
    /// The end of a run, decided on what it knows of the row; in the handler's transaction, or batched.
    Finish {
        lease: Lease,
        on: Snapshot,
        end: End,
        transaction: bool,
    },
}

impl What {
    pub(crate) fn lease(&self) -> &Lease {
        match self {
            What::Claim(lease, _) | What::Steal(lease, _) | What::Finish { lease, .. } => lease,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) store: Store,
    /// Committed, and not published yet.
    pub(crate) unpublished: Vec<Message>,
    pub(crate) broker: Vec<Message>,
    pub(crate) processes: Vec<Process>,
    pub(crate) calls: Vec<Call>,
    /// How many more faults there may be, and other events that nothing makes happen.
    pub(crate) faults: u8,
    /// How many workers were marked as gone.
    pub(crate) marks: u32,
}

impl World {
    /// Jobs of these kinds, just accepted, two workers that have joined, and no more than so many faults to come.
    pub(crate) fn new(kinds: &[Kind], max_attempts: u32, admit: bool, faults: u8) -> Self {
        let store = Store { rows: Vec::new(), members: Vec::new(), mutation: None };
        let processes = vec![Process { alive: true, ..Process::default() }; 2];
        let (unpublished, broker, calls) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { store, unpublished, broker, processes, calls, faults, marks: 0 };
        for kind in kinds {
            let row = world.store.accept(*kind, max_attempts, admit);
            if admit {
                world.publish_later(row, 1);
            }
        }
        (0..2).for_each(|process| world.join(process));
        world
    }

    pub(crate) fn with(mut self, mutation: Mutation) -> Self {
        self.store.mutation = Some(mutation);
        self
    }

    pub(crate) fn mutated(&self, mutation: Mutation) -> bool {
        self.store.mutation == Some(mutation)
    }

    pub(crate) fn publish_later(&mut self, row: usize, epoch: Epoch) {
        self.unpublished.push(Message { row, epoch, redelivered: false });
    }

    /// Numbers that nothing names any more are used again, so that equal states are equal.
    pub(crate) fn fresh_nonce(&self) -> Nonce {
        let rows = self.store.rows.iter().filter_map(|row| row.nonce);
        let runs = self.processes.iter().flat_map(|process| &process.runs).map(|run| run.lazy.nonce);
        let calls = self.calls.iter().map(|call| call.what.lease().nonce);
        let used: Vec<Nonce> = rows.chain(runs).chain(calls).collect();
        (1..).map(Nonce).find(|nonce| !used.contains(nonce)).expect("there are enough")
    }

    pub(crate) fn join(&mut self, process: usize) {
        let rows = self.store.rows.iter().filter_map(|row| row.worker);
        let runs = self.processes.iter().flat_map(|process| &process.runs).map(|run| run.lazy.worker);
        let calls = self.calls.iter().map(|call| call.what.lease().worker);
        let sessions = self.processes.iter().filter_map(|process| process.session);
        let used: Vec<_> = rows.chain(runs).chain(calls).chain(sessions).chain(self.store.members.clone()).collect();
        let worker = (1..).map(|n| WorkerId(Uuid::from_u128(n))).find(|worker| !used.contains(worker));
        let worker = worker.expect("there are enough");
        self.store.join(worker);
        let process = &mut self.processes[process];
        (process.session, process.standing) = (Some(worker), true);
    }

    /// The lease that a run of this row would start with here.
    pub(crate) fn wish(&self, process: usize, row: usize, epoch: Epoch) -> Lease {
        let worker = self.processes[process].session.expect("only a member starts anything");
        Lease { job: job_id(row), epoch, worker, nonce: self.fresh_nonce(), claimed: false }
    }

    /// Whether a process that lives goes by this membership.
    pub(crate) fn is_used(&self, worker: WorkerId) -> bool {
        self.processes.iter().any(|process| process.alive && process.session == Some(worker))
    }

    /// The order of what has no order does not tell states apart.
    pub(crate) fn normalise(&mut self) {
        self.unpublished.sort_unstable();
        self.broker.sort_unstable();
        self.calls.sort_by_key(|call| (call.what.lease().nonce.0, call.caller));
        for process in &mut self.processes {
            process.inbox.sort_unstable();
            process.runs.sort_by_key(|run| run.lazy.nonce.0);
        }
    }
}

/// What is written for an end that was decided on this.
pub(crate) fn finish_of(lease: Lease, on: &Snapshot, end: End) -> Option<Finish> {
    let transition = decided(on, &end.event())?;
    Some(Finish { lease, transition, result: None, ran_for: std::time::Duration::ZERO, linked: false })
}

impl Run {
    /// The latest epoch that the row is known to have had under this run.
    pub(crate) fn latest_epoch(&self) -> Epoch {
        if let Phase::Claimed(lease) = self.phase { lease.epoch } else { self.epoch }
    }

    /// The row is known to have moved on.
    pub(crate) fn superseded(&mut self) {
        self.phase = self.phase.superseded();
        self.stop.get_or_insert(Stop::LeaseLost);
    }
}

impl Row {
    /// Whether a success under this lease would be taken now.
    pub(crate) fn takes(&self, lease: Lease, fence: &Fence) -> bool {
        let on = Snapshot { state: if lease.claimed { State::Running } else { State::Queued }, ..self.at };
        finish_of(lease, &on, End::Succeed).is_some_and(|finish| fence.takes(&finish))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Row { at, epoch, worker, nonce, ledger, .. }) in self.store.rows.iter().enumerate() {
            let worker = worker.map(|worker| worker.0.as_u128());
            writeln!(f, "row {n}: {at:?} epoch {epoch} worker {worker:?} {nonce:?} ledger {ledger}")?;
        }
        let members: Vec<_> = self.store.members.iter().map(|member| member.0.as_u128()).collect();
        writeln!(f, "members {members:?} unpublished {:?} broker {:?}", self.unpublished, self.broker)?;
        for (n, process) in self.processes.iter().enumerate() {
            writeln!(f, "process {n}: {process:?}")?;
        }
        write!(f, "calls {:?}", self.calls)
    }
}
