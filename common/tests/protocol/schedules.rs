//! Orders of steps that real processes reach too rarely to be met by chance, each played by its script and then brought to
//! its rest by a fair schedule.

use offload_common::job::{State, WorkerId};

use crate::everything::{IMPORT, PLAIN};
use crate::explore::take;
use crate::invariants::at_rest;
use crate::steps::Step::{
    self, Beat, Cancel, Claim, Deliver, DoubleMessage, Drain, Halt, Hear, Join, Leave, Promote, Publish, Reap,
};
use crate::store::{Kind, Row};
use crate::world::{End, Message, Process, World};

/// The workers.
const A: usize = 0;
const B: usize = 1;

/// Starts what waits in the worker.
const fn start(process: usize) -> Step {
    Step::Start { process, ticket: 0, late: false }
}

const fn succeed(process: usize) -> Step {
    Step::Return(process, 0, End::Succeed)
}

/// One job, with enough faults to come for any script.
struct Play(World);

impl Play {
    fn of(kind: Kind) -> Self {
        Self(World::new(&[kind], 3, true, 20))
    }

    fn scheduled(kind: Kind) -> Self {
        Self(World::new(&[kind], 3, false, 20))
    }

    /// Every step of the script must be possible, and break nothing.
    fn steps(mut self, script: impl IntoIterator<Item = Step>) -> Self {
        for step in script {
            assert!(self.can(step), "{step:?} is not what can be next:\n{:?}", self.0);
            take(&mut self.0, step).unwrap_or_else(|broken| panic!("{step:?} breaks {broken:?}:\n{:?}", self.0));
        }
        self
    }

    fn can(&self, step: Step) -> bool {
        self.0.enabled().contains(&step)
    }

    fn call(&self, caller: Option<usize>) -> usize {
        self.0.calls.iter().position(|call| call.caller == caller).expect("a call is under way")
    }

    /// What the worker asked for is done, and it has the answer.
    fn answer(self, process: usize) -> Self {
        let call = self.call(Some(process));
        self.steps([Step::Commit(call)])
    }

    /// The worker has no answer, and asks again.
    fn no_answer(self, process: usize) -> Self {
        let call = self.call(Some(process));
        self.steps([Step::GiveUp(call)])
    }

    /// What the worker had no answer to is done after all.
    fn late(self) -> Self {
        let call = self.call(None);
        self.steps([Step::Commit(call)])
    }

    fn taken_for_dead(self, worker: WorkerId) -> Self {
        self.steps([Step::Mark(worker)])
    }

    fn id(&self, process: usize) -> WorkerId {
        self.0.processes[process].session.expect("a member")
    }

    fn row(&self) -> &Row {
        &self.0.store.rows[0]
    }

    fn process(&self, process: usize) -> &Process {
        &self.0.processes[process]
    }

    /// Ends with the job in this state, after so many attempts and losses.
    fn ends(mut self, state: State, attempt: u32, losses: u32) {
        while let Some(step) = self.0.fair() {
            self = self.steps([step]);
        }
        assert_eq!(at_rest(&self.0), Ok(()), "{:?}", self.0);
        let Row { at, .. } = self.row();
        assert_eq!((at.state, at.attempt, at.losses), (state, attempt, losses), "{:?}", self.0);
    }
}

#[test]
fn a_message_that_comes_twice_to_one_worker_starts_one_run() {
    let play = Play::of(IMPORT).steps([Publish(0), DoubleMessage(0), Deliver(A, 0), start(A), Deliver(A, 0)]);
    assert_eq!((play.process(A).inbox.len(), play.process(A).runs.len()), (0, 1));
    play.steps([Claim(A, 0)]).answer(A).steps([succeed(A)]).answer(A).ends(State::Succeeded, 1, 0);
    // Before the start it is a ticket of its own, which the start of the other makes void.
    let play = Play::of(IMPORT).steps([Publish(0), DoubleMessage(0), Deliver(A, 0), Deliver(A, 0), start(A), start(A)]);
    assert_eq!((play.process(A).inbox.len(), play.process(A).runs.len()), (0, 1));
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_message_that_comes_to_two_workers_has_one_effect() {
    let play = Play::of(PLAIN).steps([Publish(0), DoubleMessage(0), Deliver(A, 0), Deliver(B, 0), start(A), start(B)]);
    let play = play.steps([succeed(A), succeed(B)]).answer(B).answer(A);
    assert!(play.0.processes.iter().all(|process| process.runs.is_empty()));
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_claim_that_commits_after_the_mark_is_taken_back() {
    let play = Play::of(IMPORT).steps([Publish(0), Deliver(A, 0), start(A), Claim(A, 0)]);
    let worker = play.id(A);
    let play = play.taken_for_dead(worker);
    assert!(!play.can(Reap(0)), "nothing runs yet");
    let play = play.answer(A).steps([succeed(A), Reap(0)]).answer(A);
    assert_eq!((play.row().at.state, play.row().ledger), (State::Queued, 0), "the zombie committed nothing");
    play.ends(State::Succeeded, 1, 1);
}

#[test]
fn a_cancel_that_meets_a_retry_wins() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Claim(A, 0)]).answer(A);
    let play = play.steps([Step::Return(A, 0, End::Fail), Cancel(0)]).answer(A);
    assert_eq!(play.row().at.state, State::Running, "the retry is not written against the wish");
    let play = play.answer(A);
    assert_eq!(play.row().failures, 1);
    play.ends(State::Cancelled, 1, 0);
}

#[test]
fn a_retry_that_is_written_before_the_cancel_is_cancelled_as_it_waits() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Step::Return(A, 0, End::Fail)]).answer(A);
    assert_eq!(play.row().at.state, State::Scheduled);
    play.steps([Cancel(0)]).ends(State::Cancelled, 1, 0);
}

#[test]
fn a_job_that_is_stolen_while_another_holds_it_unstarted_runs_once() {
    let play = Play::of(IMPORT).steps([Publish(0), Deliver(A, 0), Step::Steal(B, 0)]).answer(B).steps([start(A)]);
    assert!(play.process(A).runs.is_empty(), "its message is void");
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_job_that_is_stolen_while_another_runs_it_unclaimed_counts_once() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Step::Steal(B, 0)]).answer(B);
    let play = play.steps([succeed(A)]).answer(A);
    assert_eq!(play.row().at.state, State::Running, "the first one's end is not taken");
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_steal_whose_reply_is_lost_is_handed_back() {
    let play = Play::of(IMPORT).steps([Step::LosePublish(0), Step::Steal(A, 0)]).no_answer(A).late();
    assert!(play.row().at.state == State::Running && play.process(A).runs.is_empty());
    let play = play.steps([Step::Stray(A, 0)]);
    assert_eq!((play.row().at.state, play.row().at.attempt), (State::Queued, 0));
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn an_end_whose_reply_is_lost_is_known_again() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), succeed(A)]).no_answer(A).late();
    assert_eq!((play.row().at.state, play.process(A).runs.len()), (State::Succeeded, 1));
    let play = play.answer(A);
    assert!(play.process(A).runs.is_empty());
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_retry_whose_reply_is_lost_is_not_written_over_the_next_attempt() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Step::Return(A, 0, End::Fail)]);
    let play = play.no_answer(A).late().steps([Promote(0), Publish(0), Deliver(B, 0), start(B)]).answer(B).answer(A);
    assert_eq!((play.row().at.state, play.row().failures), (State::Running, 1));
    play.ends(State::Succeeded, 2, 0);
}

#[test]
fn a_transaction_whose_reply_is_lost_commits_before_the_failure_or_not_at_all() {
    let script = [Publish(0), Deliver(A, 0), start(A), Claim(A, 0)];
    let play = || Play::of(IMPORT).steps(script).answer(A).steps([succeed(A)]).no_answer(A);
    let first = play().late().answer(A);
    assert_eq!((first.row().at.state, first.row().ledger), (State::Succeeded, 1));
    first.ends(State::Succeeded, 1, 0);
    let second = play().answer(A).late();
    assert_eq!((second.row().at.state, second.row().ledger), (State::Scheduled, 0));
    second.ends(State::Succeeded, 2, 0);
}

#[test]
fn a_drain_waits_for_the_claim_under_way_and_hands_back_without_an_attempt() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Claim(A, 0), Drain(A), Step::StopAll(A)]);
    assert!(!play.can(Halt(A, 0)) && !play.can(Leave(A)), "nobody knows yet what the row says");
    let play = play.answer(A).steps([Halt(A, 0)]).answer(A).steps([Leave(A)]);
    let Row { at, .. } = play.row();
    assert_eq!((at.state, at.attempt, at.losses), (State::Queued, 0, 0));
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_drain_before_the_claim_gives_the_message_back() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Drain(A), Step::StopAll(A), Halt(A, 0)]);
    assert_eq!(play.0.broker, [Message { row: 0, epoch: 1, redelivered: true }]);
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn a_promotion_and_a_cancel_leave_one_state() {
    let play = Play::scheduled(PLAIN).steps([Promote(0), Cancel(0), Publish(0), Deliver(A, 0), start(A)]);
    assert!(play.process(A).runs.is_empty(), "its message is void");
    play.ends(State::Cancelled, 0, 0);
    let play = Play::scheduled(PLAIN).steps([Cancel(0)]);
    assert!(!play.can(Promote(0)));
    play.ends(State::Cancelled, 0, 0);
}

#[test]
fn a_cancel_stops_a_lazy_run_whose_end_counts_for_nothing() {
    let play = Play::of(PLAIN).steps([Publish(0), Deliver(A, 0), start(A), Cancel(0)]);
    let late = [succeed(A)];
    Play(play.0.clone()).steps(late).answer(A).ends(State::Cancelled, 0, 0);
    play.steps([Hear(A, 0), Halt(A, 0)]).ends(State::Cancelled, 0, 0);
}

#[test]
fn a_zombie_cannot_commit_what_another_has_done() {
    let play = Play::of(IMPORT).steps([Publish(0), Deliver(A, 0), start(A), Claim(A, 0)]).answer(A);
    let worker = play.id(A);
    let play = play.steps([succeed(A)]).taken_for_dead(worker).steps([Reap(0), Publish(0), Deliver(B, 0), start(B)]);
    let play = play.answer(B).steps([succeed(B)]).answer(B).answer(A);
    assert_eq!((play.row().at.state, play.row().ledger), (State::Succeeded, 1));
    play.steps([Beat(A), Join(A)]).ends(State::Succeeded, 1, 1);
}

#[test]
fn a_zombie_that_is_faster_than_the_reaper_has_done_it() {
    let play = Play::of(IMPORT).steps([Publish(0), Deliver(A, 0), start(A), Claim(A, 0)]).answer(A);
    let worker = play.id(A);
    let play = play.taken_for_dead(worker).steps([succeed(A)]).answer(A);
    assert!(!play.can(Reap(0)));
    play.ends(State::Succeeded, 1, 0);
}

#[test]
fn the_third_loss_ends_a_job() {
    let mut play = Play::of(IMPORT).steps([Publish(0)]);
    for losses in 1..=3 {
        play = play.steps([Deliver(A, 0), start(A)]);
        if play.0.calls.is_empty() {
            play = play.steps([Claim(A, 0)]);
        }
        let worker = play.id(A);
        play = play.answer(A).steps([Step::Kill(A)]).taken_for_dead(worker).steps([Reap(0), Step::Restart(A)]);
        assert_eq!(play.row().at.losses, losses);
        // What the broker brings again of the killed process is void.
        play = play.steps([Deliver(A, 0), start(A)]);
        if losses < 3 {
            play = play.steps([Publish(0)]);
        }
    }
    play.ends(State::Failed, 1, 3);
}
