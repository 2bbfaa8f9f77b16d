//! The states of a job.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job stands. `scheduled`, `queued` and `running` are live; the other three are final and stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Due later, or waiting for its next attempt.
    Scheduled,
    /// Due, and waiting for a worker.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Done; the result is there.
    Succeeded,
    /// Given up; the error says why.
    Failed,
    /// Cancelled by a client.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [State; 6] =
        [State::Scheduled, State::Queued, State::Running, State::Succeeded, State::Failed, State::Cancelled];

    /// The name in the API and in the stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, State::Succeeded | State::Failed | State::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a state; the states are scheduled, queued, running, succeeded, failed, cancelled")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}
