//! A job: its identity, its states, what a client and what a worker see of it.

mod delivery;
mod id;
mod lane;
mod lease;
mod model;
mod state;
pub mod transition;

pub use delivery::{Verdict, judge};
pub use id::{FileId, JobId, ScheduleId, WorkerId};
pub use lane::{Lane, Priority};
pub use lease::{Epoch, Lease, Nonce};
pub use model::{Attempt, ErrorInfo, FiredBy, Job, LogLine, NewJob, Progress};
pub use state::State;
