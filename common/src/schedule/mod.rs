//! Schedules: jobs that are submitted again and again.
//!
//! Everything here is pure. Stores take the schedules that are due, ask what is to become of them
//! ([`Schedule::turn`]), and write that.

mod cron;
mod model;
pub mod policy;
pub mod template;
mod timing;
mod turn;
mod zone;

pub use cron::BadCron;
pub use model::{Definition, MAX_JITTER_SECONDS, Schedule};
pub use policy::{Missed, Outcome, Overlap, Reason, Verdict};
pub use template::JobTemplate;
pub use timing::{BadTiming, ClockChange, Fire, INTERVAL_SECONDS, Recurrence, Timing};
pub use turn::{Finding, Turn};
pub use zone::{UnknownZone, Zone};
