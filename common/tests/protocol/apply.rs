//! What each step does, as the worker and the stores do it.

use offload_common::job::transition::Snapshot;
use offload_common::job::{JobId, Lane, Lease, Priority, State, Verdict, WorkerId, judge};
use offload_common::retry::RetryPolicy;
use offload_common::store::{Candidate, Claimed, Finished};

use crate::invariants::Broken;
use crate::phase::{Hold, Phase};
use crate::steps::Step;
use crate::store::{Row, job_id, row_of};
use crate::world::{Call, End, Message, Mutation, Process, Receipt, Run, Stage, Stop, What, World, finish_of};

type Applied = Result<(), Broken>;

impl World {
    /// Takes the step.
    ///
    /// # Errors
    /// What it breaks by itself; [`crate::invariants`] looks at what it leaves.
    pub(crate) fn apply(&mut self, step: Step) -> Applied {
        self.faults -= u8::from(self.is_fault(&step));
        match step {
            Step::Publish(n) => {
                let message = self.unpublished.remove(n);
                self.broker.push(message);
            }
            Step::LosePublish(n) => drop(self.unpublished.remove(n)),
            Step::LoseMessage(n) => drop(self.broker.remove(n)),
            Step::DoubleMessage(n) => self.broker.push(self.broker[n]),
            Step::Disconnect(n) => self.disconnect(n, Receipt::Void),
            Step::Deliver(n, message) => {
                let message = self.broker.remove(message);
                if let Some(message) = self.adopt(n, message)? {
                    self.processes[n].inbox.push(message);
                }
            }
            Step::Start { process, ticket, late } => {
                let ticket = self.processes[process].inbox.remove(ticket);
                if let Some(ticket) = self.adopt(process, ticket)? {
                    self.start(process, ticket, late)?;
                }
            }
            Step::Decline(n, ticket) => {
                let ticket = self.processes[n].inbox.remove(ticket);
                self.store.decline(ticket.row, ticket.epoch);
                self.acknowledge(Receipt::Owed(ticket))?;
            }
            Step::Claim(n, run) => {
                let run = &mut self.processes[n].runs[run];
                run.phase = run.phase.claim().expect("it is not claimed");
                let wish = run.lazy;
                self.call_claim(n, wish);
            }
            Step::Return(n, run, end) => self.returned(n, run, end)?,
            Step::Halt(n, run) => self.halted(n, run)?,
            Step::Settle(n, run) => {
                let receipt = std::mem::replace(&mut self.processes[n].runs[run].receipt, Receipt::Nothing);
                self.acknowledge(receipt)?;
            }
            Step::Hear(n, run) => _ = self.processes[n].runs[run].stop.get_or_insert(Stop::Cancelled),
            Step::Commit(n) => self.commit(n)?,
            Step::GiveUp(n) => self.give_up(n),
            Step::Vanish(n) => drop(self.calls.remove(n)),
            Step::Beat(n) => {
                if self.processes[n].session.is_some_and(|worker| self.store.has(worker)) {
                    self.processes[n].standing = true;
                } else {
                    self.fenced(n);
                }
            }
            Step::Join(n) => self.join(n),
            Step::OutOfTouch(n) => self.step_back(n, Stop::OutOfTouch),
            Step::Kill(n) => {
                self.disconnect(n, Receipt::Nothing);
                self.processes[n] = Process::default();
                let abandoned = self.calls.iter_mut().filter(|call| call.caller == Some(n));
                abandoned.for_each(|call| call.caller = None);
            }
            Step::Restart(n) => {
                self.processes[n].alive = true;
                self.join(n);
            }
            Step::Drain(n) => {
                let process = &mut self.processes[n];
                process.draining = true;
                let inbox = std::mem::take(&mut process.inbox);
                inbox.into_iter().for_each(|message| self.give_back(Receipt::Owed(message)));
            }
            Step::StopAll(n) => {
                let entered = self.processes[n].runs.iter_mut().filter(|run| run.entered);
                entered.for_each(|run| _ = run.stop.get_or_insert(Stop::Draining));
            }
            Step::Leave(n) => {
                if let Some(worker) = std::mem::take(&mut self.processes[n]).session {
                    self.part(worker);
                }
            }
            Step::Mark(worker) => self.part(worker),
            Step::Reap(row) => {
                if let Some(epoch) = self.store.lose(row) {
                    self.publish_later(row, epoch);
                }
            }
            Step::Stray(n, row) => self.hand_back_stray(n, row),
            Step::Promote(row) => {
                if let Some(epoch) = self.store.promote(row) {
                    self.publish_later(row, epoch);
                }
            }
            Step::Steal(n, row) => {
                let wish = self.wish(n, row, self.store.rows[row].epoch);
                let member = self.store.has(wish.worker);
                self.calls.push(Call { caller: Some(n), what: What::Steal(wish, member) });
            }
            Step::Cancel(row) => drop(self.store.cancel(row)),
        }
        self.normalise();
        Ok(())
    }

    // --- messages

    /// A message may go only once the row shows that it is no longer needed.
    fn acknowledge(&self, receipt: Receipt) -> Applied {
        let Receipt::Owed(message) = receipt else { return Ok(()) };
        let row = &self.store.rows[message.row];
        let needed = row.at.state == State::Queued && row.epoch == message.epoch;
        if needed { Err(Broken::AcknowledgedTooEarly) } else { Ok(()) }
    }

    fn give_back(&mut self, receipt: Receipt) {
        if let Receipt::Owed(message) = receipt {
            self.broker.push(Message { redelivered: true, ..message });
        }
    }

    /// `Runs::adopt`: a message of a job that runs here only replaces the one that brought it.
    fn adopt(&mut self, n: usize, message: Message) -> Result<Option<Message>, Broken> {
        let runs = &mut self.processes[n].runs;
        let Some(run) = runs.iter_mut().find(|run| run.entered && row_of(run.lazy.job) == message.row) else {
            return Ok(Some(message));
        };
        match message.epoch.cmp(&run.epoch) {
            std::cmp::Ordering::Greater => return Ok(Some(message)),
            // The one before is settled, and this one stands for the job.
            std::cmp::Ordering::Equal if run.receipt != Receipt::Nothing => run.receipt = Receipt::Owed(message),
            _ => self.acknowledge(Receipt::Owed(message))?,
        }
        Ok(None)
    }

    fn disconnect(&mut self, n: usize, receipt: Receipt) {
        let process = &mut self.processes[n];
        let mut returned: Vec<_> = std::mem::take(&mut process.inbox).into_iter().map(Receipt::Owed).collect();
        let owed = process.runs.iter_mut().filter(|run| matches!(run.receipt, Receipt::Owed(_)));
        returned.extend(owed.map(|run| std::mem::replace(&mut run.receipt, receipt)));
        returned.into_iter().for_each(|receipt| self.give_back(receipt));
    }

    // --- starting

    /// `Starter::judge`, and what follows from it.
    fn start(&mut self, n: usize, ticket: Message, late: bool) -> Applied {
        let row = &self.store.rows[ticket.row];
        let candidate = candidate(ticket.row, row);
        let verdict = judge(Some(&candidate), ticket.epoch, ticket.redelivered || late, row.kind.repeatable);
        let (seen, receipt) = (row.at, Receipt::Owed(ticket));
        let lazy = self.wish(n, ticket.row, ticket.epoch);
        let run =
            |phase, stage| Run { lazy, epoch: lazy.epoch, seen, phase, stage, stop: None, receipt, entered: false };
        match verdict {
            Verdict::Drop => return self.acknowledge(receipt),
            Verdict::RunLazily => self.enter(n, run(Phase::Unclaimed, Stage::Performing)),
            Verdict::ClaimFirst => {
                self.processes[n].runs.push(run(Phase::Claiming, Stage::Entrant));
                self.call_claim(n, lazy);
            }
        }
        Ok(())
    }

    /// `Runs::enter`.
    fn enter(&mut self, n: usize, mut run: Run) {
        let process = &mut self.processes[n];
        let same = |other: &Run| other.entered && other.lazy.job == run.lazy.job;
        let former = process.runs.iter_mut().find(|other| same(other));
        if !process.standing || process.session != Some(run.lazy.worker) {
            run.stop = Some(Stop::OutOfTouch);
            run.phase = run.phase.abandoned();
        } else if let Some(later) = &former
            && later.latest_epoch() > run.epoch
        {
            run.superseded();
        } else {
            if let Some(former) = former {
                former.superseded();
                former.entered = false;
            }
            run.entered = true;
        }
        process.runs.push(run);
    }

    // --- calls

    fn call_claim(&mut self, n: usize, wish: Lease) {
        let member = self.store.has(wish.worker);
        self.calls.push(Call { caller: Some(n), what: What::Claim(wish, member) });
    }

    fn commit(&mut self, n: usize) -> Applied {
        let Call { caller, what } = self.calls.remove(n);
        let place = caller.and_then(|process| {
            let is_its = |run: &Run| run.lazy.nonce == what.lease().nonce;
            Some((process, self.processes[process].runs.iter().position(is_its)?))
        });
        match what {
            What::Claim(wish, member) => {
                let answer = self.store.claim(&wish, member);
                if let Some((process, run)) = place {
                    self.claimed(process, run, answer)?;
                }
            }
            What::Steal(wish, member) => {
                let stolen = self.store.steal(&wish, member);
                if let (Some(process), Some((seen, lease))) = (caller, stolen) {
                    let (phase, stage) = (Phase::Claimed(lease), Stage::Performing);
                    let receipt = Receipt::Nothing;
                    let run =
                        Run { lazy: wish, epoch: lease.epoch, seen, phase, stage, stop: None, receipt, entered: false };
                    self.enter(process, run);
                }
            }
            What::Finish { lease, on, end, transaction } => {
                let finish = finish_of(lease, &on, end).expect("it was decided before");
                let answer = if transaction { self.store.commit(&finish) } else { self.store.finish(&finish) };
                let Some((process, run)) = place else { return Ok(()) };
                match answer {
                    Finished::CancelRequested => {
                        let on = Snapshot { cancel_requested: true, ..on };
                        return self.write(process, run, lease, on, end);
                    }
                    Finished::Applied(Some(pointer)) => self.publish_later(row_of(pointer.id), pointer.epoch),
                    Finished::Applied(None) | Finished::Lost => {}
                }
                self.done(process, run)?;
            }
        }
        Ok(())
    }

    /// `claiming::start` for what waits for its claim, `lazy_claims::ask` for what runs.
    fn claimed(&mut self, n: usize, place: usize, answer: Claimed) -> Applied {
        let run = &mut self.processes[n].runs[place];
        match (run.stage, answer) {
            (Stage::Entrant, Claimed::Granted(lease)) => {
                let mut run = self.processes[n].runs.remove(place);
                (run.phase, run.stage, run.epoch) = (Phase::Claimed(lease), Stage::Performing, lease.epoch);
                self.enter(n, run);
            }
            (Stage::Entrant, Claimed::MovedOn) => self.done(n, place)?,
            (Stage::Entrant, Claimed::NotAMember) => {
                let run = self.processes[n].runs.remove(place);
                let process = &mut self.processes[n];
                process.standing &= process.session != Some(run.lazy.worker);
                self.give_back(run.receipt);
            }
            (_, Claimed::Granted(lease)) => run.phase = run.phase.claimed(Some(lease)),
            (_, Claimed::MovedOn) => {
                run.phase = run.phase.claimed(None);
                run.stop.get_or_insert(Stop::LeaseLost);
            }
            (_, Claimed::NotAMember) => {
                let worker = run.lazy.worker;
                if self.processes[n].session == Some(worker) {
                    self.fenced(n);
                }
            }
        }
        Ok(())
    }

    /// Whoever waits has no answer: the call may still be done. A claim and an end are asked for again; a steal is not; of a
    /// transaction it is looked whether the row shows it, and if not, a failed attempt is written instead.
    fn give_up(&mut self, n: usize) {
        let given_up = Call { caller: None, what: self.calls[n].what.clone() };
        let has = |store: &crate::store::Store, worker: &WorkerId| store.has(*worker);
        let again = match &mut self.calls[n].what {
            What::Steal(..) => false,
            What::Claim(wish, member) => {
                *member = has(&self.store, &wish.worker);
                true
            }
            What::Finish { end, transaction, .. } => {
                if std::mem::take(transaction) {
                    *end = End::Fail;
                }
                true
            }
        };
        if !again {
            self.calls.remove(n);
        }
        if !self.calls.contains(&given_up) {
            self.calls.push(given_up);
        }
    }

    // --- the end of a run

    /// `outcome` of a handler that returned.
    fn returned(&mut self, n: usize, place: usize, end: End) -> Applied {
        let run = &mut self.processes[n].runs[place];
        let (phase, hold) = run.phase.finish().expect("its claim is known");
        run.phase = phase;
        self.conclude(n, place, hold, end)
    }

    /// `outcome` of a handler that was told to end.
    fn halted(&mut self, n: usize, place: usize) -> Applied {
        let run = &mut self.processes[n].runs[place];
        let (phase, hold) = run.phase.finish().expect("its claim is known");
        run.phase = phase;
        match (hold, run.stop.expect("it was told")) {
            (Hold::Lost, _) => self.done(n, place),
            (Hold::Lazy, _) if self.mutated(Mutation::GivenBackAsDone) => self.done(n, place),
            (Hold::Lazy, _) => {
                let run = self.processes[n].runs.remove(place);
                self.give_back(run.receipt);
                Ok(())
            }
            (Hold::Claimed(_), Stop::Cancelled) => self.conclude(n, place, hold, End::Stopped),
            (Hold::Claimed(_), Stop::Draining | Stop::OutOfTouch) => self.conclude(n, place, hold, End::Release),
            (Hold::Claimed(_), Stop::Fenced | Stop::LeaseLost) => self.done(n, place),
        }
    }

    /// `Conclusion::write`, up to the first try.
    fn conclude(&mut self, n: usize, place: usize, hold: Hold, end: End) -> Applied {
        let run = &mut self.processes[n].runs[place];
        let cancel_requested = run.seen.cancel_requested || end == End::Stopped;
        let (lease, on) = match hold {
            Hold::Lost => return self.done(n, place),
            Hold::Lazy => (run.lazy, Snapshot { cancel_requested, ..run.seen }),
            Hold::Claimed(lease) => {
                let attempt = run.seen.attempt + u32::from(run.seen.state == State::Queued);
                (lease, Snapshot { state: State::Running, attempt, cancel_requested, ..run.seen })
            }
        };
        run.stage = Stage::Ending;
        if self.mutated(Mutation::AcknowledgedBeforeTheWrite) {
            let receipt = std::mem::replace(&mut self.processes[n].runs[place].receipt, Receipt::Nothing);
            self.acknowledge(receipt)?;
        }
        self.write(n, place, lease, on, end)
    }

    fn write(&mut self, n: usize, place: usize, lease: Lease, on: Snapshot, end: End) -> Applied {
        if finish_of(lease, &on, end).is_none() {
            let run = self.processes[n].runs.remove(place);
            self.give_back(run.receipt);
            return Ok(());
        }
        let transaction = end == End::Succeed && self.store.rows[row_of(lease.job)].kind.transactional;
        self.calls.push(Call { caller: Some(n), what: What::Finish { lease, on, end, transaction } });
        Ok(())
    }

    fn done(&mut self, n: usize, place: usize) -> Applied {
        let run = self.processes[n].runs.remove(place);
        self.acknowledge(run.receipt)
    }

    // --- memberships

    fn part(&mut self, worker: WorkerId) {
        self.marks += 1;
        self.store.part(worker);
    }

    /// `Runs::step_back`.
    fn step_back(&mut self, n: usize, why: Stop) {
        let process = &mut self.processes[n];
        process.standing = false;
        process.runs.iter_mut().filter(|run| run.entered).for_each(|run| _ = run.stop.get_or_insert(why));
    }

    /// The membership is over for good: no claim is tried any more.
    fn fenced(&mut self, n: usize) {
        self.step_back(n, Stop::Fenced);
        let process = &mut self.processes[n];
        process.session = None;
        for run in process.runs.iter_mut().filter(|run| run.entered) {
            run.phase = run.phase.abandoned();
            let its = |call: &&mut Call| matches!(call.what, What::Claim(wish, _) if wish.nonce == run.lazy.nonce);
            self.calls.iter_mut().filter(its).for_each(|call| call.caller = None);
        }
    }

    /// `strays::hand_back`.
    fn hand_back_stray(&mut self, n: usize, row: usize) {
        let Row { at, epoch, nonce, .. } = &self.store.rows[row];
        let (Some(worker), Some(nonce)) = (self.processes[n].session, *nonce) else { return };
        let lease = Lease { job: job_id(row), epoch: *epoch, worker, nonce, claimed: true };
        let Some(finish) = finish_of(lease, at, End::Release) else { return };
        if let Finished::Applied(Some(pointer)) = self.store.finish(&finish) {
            self.publish_later(row, pointer.epoch);
        }
    }
}

/// The row as `Store::fetch` reads it.
fn candidate(n: usize, row: &Row) -> Candidate {
    let Snapshot { state, attempt, max_attempts, losses, cancel_requested, .. } = row.at;
    let id: JobId = job_id(n);
    Candidate {
        id,
        tenant: String::new(),
        kind: String::new(),
        lane: Lane { queue: String::new(), priority: Priority::Normal },
        state,
        epoch: row.epoch,
        attempt,
        max_attempts,
        losses,
        cancel_requested,
        timeout: std::time::Duration::ZERO,
        retry_policy: RetryPolicy::default(),
        payload: offload_common::testing::factory::raw("null"),
        created_at: chrono::DateTime::UNIX_EPOCH,
        queued_at: chrono::DateTime::UNIX_EPOCH,
        traceparent: None,
        linked: false,
        followed: false,
        has_parents: false,
    }
}
