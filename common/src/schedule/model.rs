//! What a schedule consists of.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::policy::{Missed, Overlap};
use super::submission::{Submitted, Template};
use super::timing::{BadTiming, Recurrence, Timing};
use crate::job::ScheduleId;

/// The longest jitter: a day.
pub const MAX_JITTER_SECONDS: f64 = 86_400.0;

/// What a client says of a schedule, beside its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// When it fires.
    pub recurrence: Recurrence,
    /// On the clocks of this IANA zone.
    pub time_zone: String,
    /// Not before.
    pub starts_at: Option<DateTime<Utc>>,
    /// Not after.
    pub ends_at: Option<DateTime<Utc>>,
    /// Each job is due up to so many seconds after its fire, differently from fire to fire.
    pub jitter_seconds: f64,
    /// What becomes of missed fires.
    pub missed: Missed,
    /// How many of them are made up for at most, with [`Missed::All`].
    pub max_missed: u32,
    /// What becomes of a fire while what the last one submitted runs.
    pub overlap: Overlap,
    /// What it submits.
    #[serde(rename = "job")]
    pub template: Template,
}

/// A schedule as stored.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant: String,
    /// What it is called, for people.
    pub name: String,
    /// What it does.
    pub definition: Definition,
    /// Counts the changes that clients make.
    pub version: i64,
    /// Whether it fires at all for now.
    pub paused: bool,
    /// What intervals without a start are counted from.
    pub anchor: DateTime<Utc>,
    /// The next fire that nothing has been decided about; `None` while paused, and after the end.
    pub next_at: Option<DateTime<Utc>>,
    /// The last fire that something was submitted for.
    pub last_fire_at: Option<DateTime<Utc>>,
    /// What that was.
    pub last: Option<Submitted>,
    /// How many fires wait for it.
    pub waiting: u32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// What has become of its fires so far.
    pub counts: Counts,
    /// Why it could not have its turn when it was last tried.
    pub trouble: Option<Trouble>,
    /// When a client changed it last.
    pub updated_at: DateTime<Utc>,
}

/// Fires by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Their jobs were submitted in time.
    pub fired: u64,
    /// Their jobs were submitted later, having been missed.
    pub caught_up: u64,
    /// They were left out.
    pub skipped: u64,
    /// Somebody asked for them.
    pub run_now: u64,
}

/// What keeps a schedule from its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What is wrong.
    pub message: String,
    /// When it was found.
    pub at: DateTime<Utc>,
}

impl Definition {
    /// When it fires, intervals being counted from `anchor` unless it has a start.
    ///
    /// # Errors
    /// [`BadTiming`] where the pattern or the zone is none, which is checked when a schedule is made.
    pub fn timing(&self, anchor: DateTime<Utc>) -> Result<Timing, BadTiming> {
        Timing::new(&self.recurrence, &self.time_zone, (self.starts_at, self.ends_at), anchor)
    }

    /// By how much the job of a fire is due later: always the same for the same fire.
    #[must_use]
    pub fn jitter(&self, schedule: ScheduleId, fire_at: DateTime<Utc>) -> Duration {
        let hash =
            Sha256::new().chain_update(schedule.0).chain_update(fire_at.timestamp_micros().to_be_bytes()).finalize();
        let chance = hash.iter().take(4).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        Duration::from_secs_f64(
            self.jitter_seconds.clamp(0.0, MAX_JITTER_SECONDS) * f64::from(chance) / f64::from(u32::MAX),
        )
    }
}
