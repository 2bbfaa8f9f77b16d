//! What can happen next, and which of it is a fault.

use offload_common::job::State;
use offload_common::job::WorkerId;

use crate::phase::Phase;
use crate::store::{Row, row_of};
use crate::world::{End, Message, Mutation, Process, Receipt, Run, Stage, What, World};

/// Runs that a process has room for.
const SLOTS: usize = 2;

/// One step of one party. Numbers are places in the world's lists: a process and its ticket or run, a message, a call, a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    // --- the broker, and what is on the way to it
    Publish(usize),
    LosePublish(usize),
    LoseMessage(usize),
    DoubleMessage(usize),
    Disconnect(usize),
    // --- a worker's messages
    Deliver(usize, usize),
    /// Late: after it has waited for a second in the process.
    Start {
        process: usize,
        ticket: usize,
        late: bool,
    },
    Decline(usize, usize),
    // --- a worker's runs
    Claim(usize, usize),
    Return(usize, usize, End),
    /// The handler ends because it was told to.
    Halt(usize, usize),
    /// The message of a run that has lasted a while is settled.
    Settle(usize, usize),
    /// The process hears that a job is to be cancelled.
    Hear(usize, usize),
    // --- calls under way
    /// The store does it, and whoever waits has the answer.
    Commit(usize),
    /// Whoever waits gives up and asks again; the store may still do it.
    GiveUp(usize),
    /// What nobody waits for any more never reaches the store.
    Vanish(usize),
    // --- processes and memberships
    Beat(usize),
    Join(usize),
    OutOfTouch(usize),
    Kill(usize),
    Restart(usize),
    Drain(usize),
    StopAll(usize),
    Leave(usize),
    /// A worker is taken for dead.
    Mark(WorkerId),
    // --- reconcilers, and a client
    Reap(usize),
    Stray(usize, usize),
    Promote(usize),
    Steal(usize, usize),
    Cancel(usize),
}

impl World {
    /// Whether this is a fault, or something else that an ordinary life goes without: it counts against the bound.
    pub(crate) fn is_fault(&self, step: &Step) -> bool {
        match step {
            Step::Start { late, .. } => *late,
            // It lasts for half a minute; for half a second, if it does not ask for its claim by itself.
            Step::Settle(..) => true,
            Step::Claim(n, run) => !self.row_of_run(*n, *run).kind.transactional,
            // Its message may still come.
            Step::Steal(_, row) => self.has_message(*row),
            Step::LosePublish(_) | Step::LoseMessage(_) | Step::DoubleMessage(_) | Step::Disconnect(_) => true,
            Step::Decline(..) | Step::Return(_, _, End::Fail | End::Snooze) | Step::GiveUp(_) => true,
            Step::OutOfTouch(_) | Step::Kill(_) | Step::Drain(_) | Step::Cancel(_) => true,
            Step::Mark(worker) => self.is_used(*worker),
            _ => false,
        }
    }

    fn row_of_run(&self, n: usize, run: usize) -> &Row {
        &self.store.rows[row_of(self.processes[n].runs[run].lazy.job)]
    }

    /// Whether the row has moved on from what the message points at: whoever has it lets go of it.
    pub(crate) fn is_void(&self, message: Message) -> bool {
        message.epoch != self.store.rows[message.row].epoch
    }

    fn has_message(&self, row: usize) -> bool {
        let held = self.processes.iter().flat_map(|process| &process.runs).filter_map(|run| match run.receipt {
            Receipt::Owed(message) => Some(message),
            _ => None,
        });
        let waiting = self.processes.iter().flat_map(|process| &process.inbox).copied();
        let mut all = self.unpublished.iter().chain(&self.broker).copied().chain(held).chain(waiting);
        all.any(|message| message.row == row && message.epoch == self.store.rows[row].epoch)
    }

    /// Every step that can be next.
    pub(crate) fn enabled(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for n in 0..self.unpublished.len() {
            steps.extend([Step::Publish(n), Step::LosePublish(n)]);
        }
        for n in (0..self.broker.len()).filter(|n| !self.is_void(self.broker[*n])) {
            steps.extend([Step::LoseMessage(n), Step::DoubleMessage(n)]);
        }
        for (n, call) in self.calls.iter().enumerate() {
            steps.extend([Step::Commit(n), if call.caller.is_some() { Step::GiveUp(n) } else { Step::Vanish(n) }]);
        }
        for (n, process) in self.processes.iter().enumerate() {
            if process.alive { self.of_process(n, process, &mut steps) } else { steps.push(Step::Restart(n)) }
        }
        steps.extend(self.store.members.iter().copied().map(Step::Mark));
        for (n, row) in self.store.rows.iter().enumerate() {
            if self.store.is_orphan(n) && !self.mutated(Mutation::ReapOnlyAtTheMark) {
                steps.push(Step::Reap(n));
            }
            if row.at.state == State::Scheduled {
                steps.push(Step::Promote(n));
            }
            if !row.at.state.is_final() && !row.wished {
                steps.push(Step::Cancel(n));
            }
        }
        steps.retain(|step| self.faults > 0 || !self.is_fault(step));
        steps
    }

    fn of_process(&self, n: usize, process: &Process, steps: &mut Vec<Step>) {
        let Process { session, standing, draining, inbox, runs, .. } = process;
        let awaited =
            |what: fn(&What) -> bool| self.calls.iter().any(|call| call.caller == Some(n) && what(&call.what));
        let has_room = *standing && !draining && runs.len() < SLOTS;
        for (ticket, message) in inbox.iter().enumerate() {
            if has_room {
                let row = &self.store.rows[message.row];
                steps.push(Step::Start { process: n, ticket, late: false });
                if row.at.state == State::Queued && !self.is_void(*message) {
                    steps.push(Step::Decline(n, ticket));
                    if row.kind.repeatable && !message.redelivered {
                        steps.push(Step::Start { process: n, ticket, late: true });
                    }
                }
            }
        }
        if !draining {
            // Who lets go of a void one makes no difference.
            let first = self.processes.iter().position(|process| process.alive && !process.draining);
            let wanted = |message: &usize| first == Some(n) || !self.is_void(self.broker[*message]);
            steps.extend((0..self.broker.len()).filter(wanted).map(|message| Step::Deliver(n, message)));
            steps.push(Step::Drain(n));
        }
        for (place, run) in runs.iter().enumerate() {
            self.of_run((n, place), run, steps);
        }
        let unsettled = !inbox.is_empty() || runs.iter().any(|run| matches!(run.receipt, Receipt::Owed(_)));
        if unsettled {
            steps.push(Step::Disconnect(n));
        }
        if *standing && !runs.is_empty() {
            steps.push(Step::OutOfTouch(n));
        }
        steps.push(Step::Kill(n));
        let is_member = session.is_some_and(|worker| self.store.has(worker));
        match session {
            Some(_) if !is_member || !standing => steps.push(Step::Beat(n)),
            None if !draining => steps.push(Step::Join(n)),
            _ => {}
        }
        if *draining && runs.iter().any(|run| run.entered && run.stop.is_none()) {
            steps.push(Step::StopAll(n));
        }
        if *draining && runs.is_empty() && !awaited(|_| true) {
            steps.push(Step::Leave(n));
        }
        let taking =
            awaited(|what| matches!(what, What::Steal(..))) || runs.iter().any(|run| run.stage == Stage::Entrant);
        for (place, row) in self.store.rows.iter().enumerate() {
            if row.at.state == State::Queued
                && has_room
                && !awaited(|what| matches!(what, What::Steal(..)))
                && !self.mutated(Mutation::NobodySteals)
            {
                steps.push(Step::Steal(n, place));
            }
            // `strays::Strays`: what a beat finds that says it runs here, and is neither here nor on its way.
            let here = |run: &Run| run.entered && Some(run.lazy.nonce) == row.nonce;
            if row.at.state == State::Running
                && is_member
                && row.worker == *session
                && !taking
                && !runs.iter().any(here)
                && !self.mutated(Mutation::NobodyLooksForStrays)
            {
                steps.push(Step::Stray(n, place));
            }
        }
    }

    fn of_run(&self, (n, place): (usize, usize), run: &Run, steps: &mut Vec<Step>) {
        if run.stage != Stage::Performing {
            return;
        }
        let row = &self.store.rows[row_of(run.lazy.job)];
        let known = run.phase.finish().is_some();
        if run.entered && run.phase == Phase::Unclaimed && self.processes[n].session == Some(run.lazy.worker) {
            steps.push(Step::Claim(n, place));
        }
        // What a handler writes to the ledger goes through a transaction, which takes a claim.
        if known && (!row.kind.transactional || matches!(run.phase, Phase::Claimed(_))) {
            steps.push(Step::Return(n, place, End::Succeed));
        }
        match run.stop {
            Some(_) if known => steps.push(Step::Halt(n, place)),
            None => {
                if known {
                    steps.extend([Step::Return(n, place, End::Fail), Step::Return(n, place, End::Snooze)]);
                }
                if run.entered && (row.at.cancel_requested || row.at.state == State::Cancelled) {
                    steps.push(Step::Hear(n, place));
                }
            }
            Some(_) => {}
        }
        if matches!((run.phase, run.receipt), (Phase::Claimed(_), Receipt::Owed(_))) {
            steps.push(Step::Settle(n, place));
        }
    }

    /// The next step of a fair schedule without further faults; `None` where everything has come to rest.
    pub(crate) fn fair(&self) -> Option<Step> {
        let rank = |step: &Step| match step {
            Step::Vanish(_) => Some(0),
            Step::Commit(_) => Some(1),
            Step::Halt(..) => Some(2),
            Step::Beat(_) | Step::Join(_) | Step::Restart(_) => Some(3),
            Step::Mark(worker) if !self.is_used(*worker) => Some(4),
            Step::Reap(_) => Some(5),
            Step::Return(_, _, End::Succeed) => Some(6),
            Step::Claim(n, run) if self.row_of_run(*n, *run).kind.transactional => Some(7),
            Step::Leave(_) => Some(8),
            Step::Start { late: false, .. } => Some(9),
            Step::Publish(_) => Some(10),
            Step::Deliver(..) => Some(11),
            Step::Stray(..) => Some(12),
            Step::Promote(_) => Some(13),
            Step::Steal(..) => Some(14),
            _ => None,
        };
        let calm = World { faults: 0, ..self.clone() };
        calm.enabled()
            .into_iter()
            .filter_map(|step| Some((rank(&step)?, step)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, step)| step)
    }
}
