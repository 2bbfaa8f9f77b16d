//! The body of a submission.

use offload_common::RawJson;
use offload_common::job::JobId;
use serde::Serialize;

/// A job to submit; what is left out gets the kind's default.
#[derive(Debug, Serialize)]
pub(crate) struct Submission {
    /// The kind's name.
    pub(crate) kind: String,
    /// What it works on.
    pub(crate) payload: RawJson,
    /// Where it queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue: Option<String>,
    /// `high`, `normal` or `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<String>,
    /// Due at this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_at: Option<String>,
    /// Due after this many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delay_seconds: Option<f64>,
    /// At most this many attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_attempts: Option<u32>,
    /// Seconds per attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_seconds: Option<u64>,
    /// For filters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    /// No other live job of the kind has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unique_key: Option<String>,
    /// What becomes of it where one has: `return`, `replace` or `refuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_conflict: Option<String>,
    /// The jobs that it runs after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<JobId>,
    /// What becomes of it when one of those does not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after_policy: Option<String>,
}

impl Submission {
    /// A job with every default.
    pub(crate) fn new(kind: &str, payload: RawJson) -> Self {
        Self {
            kind: kind.to_owned(),
            payload,
            queue: None,
            priority: None,
            run_at: None,
            delay_seconds: None,
            max_attempts: None,
            timeout_seconds: None,
            tags: Vec::new(),
            unique_key: None,
            on_conflict: None,
            after: Vec::new(),
            after_policy: None,
        }
    }
}
