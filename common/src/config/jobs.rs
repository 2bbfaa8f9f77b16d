//! The section `[jobs]`: defaults and limits of jobs.

use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;

/// Defaults and limits of jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsConfig {
    /// How the delay between attempts grows.
    pub retry: RetryPolicy,
    /// The longest time-out that a request may ask for, in seconds.
    pub max_timeout_seconds: u64,
    /// Days that a finished job is kept.
    pub retention_days: f64,
    /// Hours that an `Idempotency-Key` is kept.
    pub idempotency_hours: f64,
    /// Queued rows per lane that the broker holds at most; what is due beyond waits in the database.
    pub window: u32,
}
