//! Schedules: jobs and batches that are submitted again and again.
//!
//! Everything here is pure. Stores take the schedules that are due, ask what is to become of them
//! ([`Schedule::turn`]), and write that.

mod change;
mod cron;
mod model;
pub mod policy;
mod submission;
pub mod template;
mod timing;
mod turn;
mod zone;

pub use change::Change;
pub use cron::BadCron;
pub use model::{Counts, Definition, MAX_JITTER_SECONDS, Schedule, Trouble};
pub use policy::{Missed, Outcome, Overlap, Reason, Verdict};
pub use submission::{BatchTemplate, MAX_BATCH_JOBS, Submission, Submitted, Template};
pub use template::JobTemplate;
pub use timing::{BadTiming, ClockChange, Fire, INTERVAL_SECONDS, Recurrence, Timing};
pub use turn::{Finding, Turn};
pub use zone::{UnknownZone, Zone};
