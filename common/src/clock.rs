//! The only place that reads the machine's clocks.
//!
//! Times that processes compare with each other (beats, due times, leases) are the database's, read in the
//! statement. What is left for this module are durations within one process, and stamps for people.

use std::time::Instant;

use chrono::{DateTime, SubsecRound, Utc};

/// The wall clock, in whole microseconds: what the API shows and the stores keep.
#[must_use]
pub fn now() -> DateTime<Utc> {
    #[allow(clippy::disallowed_methods)]
    Utc::now().trunc_subsecs(6)
}

/// The monotonic clock, for measuring durations within this process.
#[must_use]
pub fn instant() -> Instant {
    #[allow(clippy::disallowed_methods)]
    Instant::now()
}
