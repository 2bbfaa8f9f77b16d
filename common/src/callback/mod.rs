//! Callbacks: a signed POST to an address of the client's when a job or a batch has ended.
//!
//! A callback is a job itself, of the kind [`KIND`], inserted in the transaction that ends what it tells of. Its payload is
//! the message, written once, so that every try sends the same bytes. Its secret stays apart from it, with the
//! [`Callback`] in the store.

mod message;
mod secret;
mod signature;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use message::{BatchEnd, Ends, Payload, of_batch, of_job};
pub use secret::{BadSecret, Secret, SigningKey};
pub use signature::{Signer, message_id};

use crate::job::State;

/// The kind of the jobs that deliver callbacks. Clients cannot submit it.
pub const KIND: &str = "callback";

/// The pauses after each failed try; then it has failed.
const PAUSES: [u64; 9] = [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Tries at most: the first, and one after each pause.
pub const MAX_ATTEMPTS: u32 = PAUSES.len() as u32 + 1;

/// How long to wait after this failed try, from 1.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    let n = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[n])
}

/// Where an end is to be told of. Serialized only into the store: it holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callback {
    /// Where to.
    pub url: String,
    /// Which ends.
    pub events: Vec<Event>,
    /// What signs it; without, what the configuration says.
    pub secret: Option<Secret>,
}

/// What can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// A job came to a result.
    #[serde(rename = "job.succeeded")]
    JobSucceeded,
    /// A job failed for good.
    #[serde(rename = "job.failed")]
    JobFailed,
    /// A job was cancelled.
    #[serde(rename = "job.cancelled")]
    JobCancelled,
    /// All jobs of a batch are final, for the first time.
    #[serde(rename = "batch.finished")]
    BatchFinished,
}

impl Event {
    /// What can be told of a job.
    pub const OF_JOBS: [Event; 3] = [Event::JobSucceeded, Event::JobFailed, Event::JobCancelled];
    /// What can be told of a batch.
    pub const OF_BATCHES: [Event; 1] = [Event::BatchFinished];

    /// The name in the API and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Event::JobSucceeded => "job.succeeded",
            Event::JobFailed => "job.failed",
            Event::JobCancelled => "job.cancelled",
            Event::BatchFinished => "batch.finished",
        }
    }

    /// The event of a job that came to this state; `None` if that is no end.
    #[must_use]
    pub const fn of_job(state: State) -> Option<Event> {
        match state {
            State::Succeeded => Some(Event::JobSucceeded),
            State::Failed => Some(Event::JobFailed),
            State::Cancelled => Some(Event::JobCancelled),
            State::Scheduled | State::Queued | State::Running => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = Self::OF_JOBS.into_iter().chain(Self::OF_BATCHES);
        all.into_iter().find(|event| event.as_str() == text).ok_or_else(|| format!("`{text}` is not an event"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_day() {
        let pauses: Vec<u64> = (1..MAX_ATTEMPTS).map(|attempt| pause(attempt).as_secs()).collect();
        assert_eq!(pauses, [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!((pause(0).as_secs(), pause(u32::MAX).as_secs()), (5, 86_400));
    }

    #[test]
    fn events_are_written_as_they_are_read() {
        for event in Event::OF_JOBS.into_iter().chain(Event::OF_BATCHES) {
            assert_eq!(event.as_str().parse(), Ok(event));
            assert_eq!(serde_json::json!(event), event.as_str());
        }
        assert!("job.paused".parse::<Event>().is_err());
        let ends = State::ALL.into_iter().filter(|state| Event::of_job(*state).is_some());
        assert!(ends.eq(State::ALL.into_iter().filter(|state| state.is_final())));
    }
}
