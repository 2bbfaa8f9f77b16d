//! A job: its identity, its states, what a client and what a worker see of it.

mod chain;
mod delivery;
mod event;
mod id;
mod lane;
mod lease;
mod model;
mod plan;
mod state;
pub mod transition;
mod unique;

pub use chain::{After, AfterPolicy, MAX_PARENTS, PARENT_NOT_SUCCEEDED, Parents, SHOWN_PARENTS, UnknownAfterPolicy};
pub use delivery::{Verdict, judge};
pub use event::{EventId, Happening, JobEvent, MOST_STEPS, NoEventId, Said, Step, Trail};
pub use id::{BatchId, FileId, JobId, ScheduleId, WorkerId};
pub use lane::{Lane, Priority};
pub use lease::{Epoch, Lease, Nonce};
pub use model::{Attempt, ErrorInfo, FiredBy, Job, LogLine, NewJob, Progress};
pub use plan::JobPlan;
pub use state::State;
pub use unique::{OnConflict, UniqueKey, UnknownPolicy};
