//! Schedules: the part of the store port that keeps them and makes their fires.
//!
//! A fire is decided once. Its record is unique per schedule and nominal time, and commits together with its job and with the
//! schedule's next time: whoever dies in between has changed nothing, and of two processes that take the same schedule one
//! finds it taken.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Accepted, Filled, IdempotencyKey, Result};
use crate::job::{BatchId, JobId, ScheduleId};
use crate::schedule::{Change, Definition, Schedule, Submitted, Verdict};

/// A schedule that could not have its turn is tried again after this.
pub(super) const TROUBLE_LASTS: Duration = Duration::from_secs(30);

/// A schedule about to be made. What it is made of has been validated.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant: String,
    /// What it is called; unique for the tenant.
    pub name: String,
    /// What it does.
    pub definition: Definition,
}

/// What became of a [`NewSchedule`], or of a [`Change`].
#[derive(Clone, Debug)]
pub enum Changed {
    /// The schedule as it is now.
    Done(Box<Schedule>),
    /// Another schedule of the tenant has that name. Nothing was written.
    NameTaken(ScheduleId),
    /// It has changed since: this is its version. Nothing was written.
    Conflict(i64),
    /// There is no such schedule.
    Missing,
}

/// What became of a wish to remove a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone; its jobs and the records of its fires stay for their retention.
    Done,
    /// It has changed since: this is its version.
    Conflict(i64),
    /// There is no such schedule.
    Missing,
}

/// A record of what became of a fire, or of several in a row that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireRecord {
    /// What was decided.
    pub verdict: Verdict,
    /// What was submitted for it.
    pub submitted: Option<Submitted>,
    /// When that was.
    pub recorded_at: DateTime<Utc>,
}

/// A part of a list of schedules, newest first.
#[derive(Clone, Debug, Default)]
pub struct ScheduleFilter {
    /// Whose schedules.
    pub tenant: String,
    /// Called this.
    pub name: Option<String>,
    /// Only ids below this one: the last of the page before.
    pub before: Option<ScheduleId>,
    /// At most this many.
    pub limit: u32,
}

/// What firing did.
#[derive(Clone, Debug, Default)]
pub struct Fired {
    /// Schedules that had their turn, those in trouble included.
    pub turns: u32,
    /// Jobs that were submitted, those of batches included. They are `scheduled`: promotion brings them in.
    pub submitted: Vec<JobId>,
    /// Jobs that had not started and were cancelled by a later fire.
    pub cancelled: Vec<JobId>,
    /// Running jobs that are to be cancelled; their workers are to be told.
    pub cancelling: Vec<JobId>,
    /// Schedules that could not have their turn, and why.
    pub troubled: Vec<(ScheduleId, String)>,
}

impl Fired {
    /// Adds what a further turn did.
    pub(super) fn add(&mut self, other: Fired) {
        let Fired { turns, submitted, cancelled, cancelling, troubled } = other;
        self.turns += turns;
        self.submitted.extend(submitted);
        self.cancelled.extend(cancelled);
        self.cancelling.extend(cancelling);
        self.troubled.extend(troubled);
    }
}

/// What became of a wish to run a schedule now.
#[derive(Clone, Debug)]
pub enum Ran {
    /// It submits a job: what became of that.
    Job(JobId, Accepted),
    /// It submits a batch: what became of that.
    Batch(BatchId, Filled),
}

impl Ran {
    /// Whether something was submitted.
    #[must_use]
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Ran::Job(_, Accepted::New { .. }) | Ran::Batch(_, Filled::Done(_)))
    }
}

/// When firing is worth another look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextFire {
    /// The next schedule is due after this.
    pub due_in: Option<Duration>,
    /// Fires wait for what earlier ones submitted to come to its end.
    pub waiting: bool,
}

/// A database that remembers schedules.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Makes a schedule, by the store's clock. [`super::Error::Rejected`] where its timing is none.
    async fn add_schedule(&self, new: &NewSchedule) -> Result<Changed>;

    /// Reads a schedule.
    async fn schedule(&self, tenant: &str, id: ScheduleId) -> Result<Option<Schedule>>;

    /// Lists schedules, newest id first.
    async fn schedules(&self, filter: &ScheduleFilter) -> Result<Vec<Schedule>>;

    /// Changes a schedule, if its version is the expected one, where one is.
    async fn change_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        expected: Option<i64>,
        change: &Change,
    ) -> Result<Changed>;

    /// Removes a schedule, if its version is the expected one, where one is.
    async fn remove_schedule(&self, tenant: &str, id: ScheduleId, expected: Option<i64>) -> Result<Removed>;

    /// Submits what the schedule does for now, whatever it does otherwise, and also while it is paused. `None` if there is no
    /// such schedule. It is the schedule's last from then on, and overlaps with the next fire like any other.
    async fn run_schedule(
        &self,
        tenant: &str,
        id: ScheduleId,
        key: Option<&IdempotencyKey>,
        traceparent: Option<&str>,
    ) -> Result<Option<Ran>>;

    /// The records of a schedule's fires, latest nominal time first, of times before one.
    async fn fires(&self, schedule: ScheduleId, before: Option<DateTime<Utc>>, limit: u32) -> Result<Vec<FireRecord>>;

    /// Gives at most `limit` schedules their turn that are due, or whose waiting fires can go on. One that cannot have it is
    /// marked, and keeps no other from its own.
    async fn fire(&self, limit: u32) -> Result<Fired>;

    /// When the next is due.
    async fn next_fire(&self) -> Result<NextFire>;
}
