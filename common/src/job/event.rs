//! The events of a job: every state it went through, and all that its handler said, in order.
//!
//! They are read off a [`Trail`], which is what the store keeps of a job's past. An event that can be read off once can be
//! read off for ever, under the same id, and what comes later has a greater id: so a live stream is nothing but the trail
//! read again after the last id that was sent. What the row cannot tell is never sent, live or replayed.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Attempt, Epoch, JobId, Progress, State};

/// The epoch that jobs are accepted at.
const FIRST_EPOCH: Epoch = 1;

/// Steps that a trail keeps. A job that comes and goes more often (it snoozes each second, say) tells of its later
/// states only once it is final.
pub const MOST_STEPS: usize = 500;

/// Names an event within its job: `<epoch>-<n>`. They are ordered as the events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The epoch that the job had.
    pub epoch: Epoch,
    /// 0 is the change that began the epoch; what a handler says counts from 1.
    pub n: u32,
}

impl EventId {
    /// The end of this epoch: what comes after it is of a later one.
    #[must_use]
    pub const fn end_of(epoch: Epoch) -> Self {
        Self { epoch, n: u32::MAX }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.n)
    }
}

/// The text is not the id of an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of an event, such as 1-0")]
pub struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    /// Digits only: an id has one form.
    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let (epoch, n) = text.split_once('-').filter(|(epoch, n)| number(epoch) && number(n)).ok_or(NoEventId)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| NoEventId)?, n: n.parse().map_err(|_| NoEventId)? })
    }
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEvent {
    /// Its place among the job's events.
    pub id: EventId,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The attempt that it belongs to, or the last before it; 0 before the first.
    pub attempt: u32,
    /// What it was.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The job took this state.
    State {
        /// Which.
        state: State,
        /// When it is due, for `scheduled`.
        run_at: Option<DateTime<Utc>>,
        /// The failure of the attempt that led to it: code and message.
        error: Option<(String, String)>,
    },
    /// Its handler told how far it has come.
    Progress(Progress),
    /// Its handler wrote a line to the log.
    Log {
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// The text.
        message: String,
    },
}

/// A state that a job went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The epoch that it began.
    pub epoch: Epoch,
    /// Which.
    pub state: State,
    /// Since when.
    pub at: DateTime<Utc>,
    /// When it was due then, for `scheduled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
}

/// Something that a handler said, as it is stored: progress where there is a fraction, else a log line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The epoch of the run.
    pub epoch: Epoch,
    /// Its number within the run, from 1.
    pub n: u32,
    /// When.
    pub at: DateTime<Utc>,
    /// The level of a line.
    pub level: String,
    /// The text.
    pub message: String,
    /// How far it has come.
    pub fraction: Option<f64>,
}

/// What the store keeps of a job's past, as one look at it finds it.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The job.
    pub job: JobId,
    /// Whose it is.
    pub tenant: String,
    /// Where it stands.
    pub state: State,
    /// Counts its hand-overs.
    pub epoch: Epoch,
    /// Attempts started and not handed back.
    pub attempt: u32,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its last attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub finished_at: Option<DateTime<Utc>>,
    /// What it went through before the state that it has, and, unless it is final, that state.
    pub steps: Vec<Step>,
    /// Every failed attempt, oldest first.
    pub history: Vec<Attempt>,
    /// What its handler said after the event that was asked for, in order.
    pub said: Vec<Said>,
    /// Whether it said more than was read.
    pub more: bool,
}

impl Trail {
    /// Whether the last of [`Trail::events`] is the last that there will ever be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.is_final() && !self.more
    }

    /// The events after this one, in order.
    #[must_use]
    pub fn events(&self, after: Option<EventId>) -> Vec<JobEvent> {
        let mut events = self.states();
        // A run that began since this look was made is told of by the next.
        let said = self.said.iter().filter(|said| said.epoch <= self.epoch);
        events.extend(said.map(|said| self.utterance(said)));
        events.sort_by_key(|event| event.id);
        let last = self.said.last().filter(|_| self.more).map(|said| EventId { epoch: said.epoch, n: said.n });
        events.retain(|event| Some(event.id) > after && last.is_none_or(|last| event.id <= last));
        events
    }

    /// Every state, in order.
    fn states(&self) -> Vec<JobEvent> {
        let mut steps = self.steps.clone();
        if steps.first().is_none_or(|step| step.epoch != FIRST_EPOCH) {
            let accepted = Step { epoch: FIRST_EPOCH, state: State::Queued, at: self.created_at, run_at: None };
            steps.insert(0, accepted);
        }
        if let Some(at) = self.finished_at.filter(|_| self.state.is_final()) {
            steps.push(Step { epoch: self.epoch, state: self.state, at, run_at: None });
        }
        let mut events: Vec<JobEvent> = Vec::with_capacity(steps.len() + 1);
        let mut before = None;
        for step in &steps {
            events.extend(self.unclaimed_run(before, step));
            events.push(self.change(step));
            before = Some(step);
        }
        events
    }

    fn change(&self, step: &Step) -> JobEvent {
        let Step { epoch, state, at, run_at } = *step;
        let failed = self.history.iter().find(|attempt| attempt.epoch == epoch);
        let attempt = match state {
            State::Running => self.failures_before(epoch) + 1,
            _ if state.is_final() => self.attempt,
            _ => self.failures_before(epoch) + u32::from(failed.is_some()),
        };
        let error = failed.map(|attempt| (attempt.code.clone(), attempt.message.clone()));
        JobEvent { id: EventId { epoch, n: 0 }, at, attempt, what: Happening::State { state, run_at, error } }
    }

    /// The run that led to this step without a claim of its own: it started on a row that said `queued`, and the row
    /// tells of it only now. Nothing else has an id between the two states.
    fn unclaimed_run(&self, before: Option<&Step>, step: &Step) -> Option<JobEvent> {
        let before = before.filter(|before| before.state == State::Queued && self.steps.len() < MOST_STEPS)?;
        let failed = self.history.iter().find(|attempt| attempt.epoch == step.epoch);
        let at = match (step.state, failed) {
            (State::Succeeded, _) => self.started_at,
            (_, Some(failed)) => failed.started_at,
            _ => None,
        }?;
        let id = EventId { epoch: step.epoch - 1, n: 1 };
        let what = Happening::State { state: State::Running, run_at: None, error: None };
        let attempt = self.failures_before(step.epoch) + 1;
        Some(JobEvent { id, at: at.max(before.at), attempt, what })
    }

    fn utterance(&self, said: &Said) -> JobEvent {
        let Said { epoch, n, at, .. } = *said;
        let what = match said.fraction {
            Some(fraction) => {
                let message = Some(said.message.clone()).filter(|message| !message.is_empty());
                Happening::Progress(Progress { fraction, message })
            }
            None => Happening::Log { level: said.level.clone(), message: said.message.clone() },
        };
        JobEvent { id: EventId { epoch, n }, at, attempt: self.failures_before(epoch) + 1, what }
    }

    /// Failed attempts count; those that were handed back do not.
    fn failures_before(&self, epoch: Epoch) -> u32 {
        let failures = self.history.iter().filter(|attempt| attempt.epoch < epoch).count();
        u32::try_from(failures).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests;
