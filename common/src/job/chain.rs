//! Jobs that run after others: their parents.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::transition::{Failure, Retry};
use super::{JobId, State};

/// A job has at most so many parents.
pub const MAX_PARENTS: usize = 10_000;

/// So many of a job's parents are named where it is shown.
pub const SHOWN_PARENTS: u32 = 100;

/// The code of the error of a job that was cancelled since a parent did not succeed.
pub const PARENT_NOT_SUCCEEDED: &str = "parent_not_succeeded";

/// What becomes of a job when one of its parents fails or is cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AfterPolicy {
    /// It is cancelled at once.
    #[default]
    Cancel,
    /// It runs all the same, once all of them are final.
    Run,
}

impl AfterPolicy {
    /// Every policy.
    pub const ALL: [AfterPolicy; 2] = [AfterPolicy::Cancel, AfterPolicy::Run];

    /// The name in the API and in the stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AfterPolicy::Cancel => "cancel",
            AfterPolicy::Run => "run",
        }
    }

    /// Why a job is given up when a parent has come to this end, if it is.
    #[must_use]
    pub fn forsakes(self, parent: JobId, came_to: State) -> Option<Failure> {
        let how = match (self, came_to) {
            (AfterPolicy::Cancel, State::Failed) => "failed",
            (AfterPolicy::Cancel, State::Cancelled) => "was cancelled",
            _ => return None,
        };
        let message = format!("job {parent}, which this one was to run after, {how}");
        Some(Failure { code: PARENT_NOT_SUCCEEDED.to_owned(), message, retry: Retry::Never })
    }
}

impl fmt::Display for AfterPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a policy.
#[derive(Debug, thiserror::Error)]
#[error("must be `cancel` or `run`")]
pub struct UnknownAfterPolicy;

impl FromStr for AfterPolicy {
    type Err = UnknownAfterPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        AfterPolicy::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or(UnknownAfterPolicy)
    }
}

/// What a job is to run after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Its parents, each once; at least one.
    pub jobs: Vec<JobId>,
    /// What becomes of it when one of them does not succeed.
    pub policy: AfterPolicy,
}

/// The parents of a job, as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parents {
    /// How many it has.
    pub total: u32,
    /// How many of them it still waits for.
    pub waiting: u32,
    /// What becomes of it when one of them does not succeed.
    pub policy: AfterPolicy,
    /// The first of them, at most [`SHOWN_PARENTS`].
    pub first: Vec<JobId>,
}
