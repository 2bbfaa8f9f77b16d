//! Unique keys: of the live jobs of a tenant and kind, at most one has a given key.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job's key, with what becomes of the job where another one has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueKey {
    /// As the client wrote it. Scoped to the tenant and the kind.
    pub key: String,
    /// What becomes of the job where the key is taken.
    pub on_conflict: OnConflict,
}

/// What becomes of a job whose unique key a live job has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The live job is answered in its place.
    #[default]
    Return,
    /// The live job is cancelled for it, unless that runs: then it is refused.
    Replace,
    /// It is refused.
    Refuse,
}

impl OnConflict {
    /// Every policy.
    pub const ALL: [OnConflict; 3] = [OnConflict::Return, OnConflict::Replace, OnConflict::Refuse];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OnConflict::Return => "return",
            OnConflict::Replace => "replace",
            OnConflict::Refuse => "refuse",
        }
    }
}

impl fmt::Display for OnConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a policy.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not one of return, replace, refuse")]
pub struct UnknownPolicy(String);

impl FromStr for OnConflict {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        OnConflict::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| UnknownPolicy(text.to_owned()))
    }
}
