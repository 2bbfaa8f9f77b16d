//! When a schedule fires.
//!
//! A pattern names times of the clock; a zone says which points in time these are. Where the clocks change, as Vixie cron
//! means it:
//!
//! - a time that does not exist fires once, right after the gap;
//! - a time that comes twice fires once, the first time;
//! - a pattern that repeats itself after just the time that the clocks are changed by, as one that runs in every hour does
//!   after an hour, goes by elapsed time: nothing of it is moved into the gap's end, and it fires both times.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeDelta, Timelike, Utc};

use super::cron::{BadCron, Cron};
use super::zone::{Reading, UnknownZone, Zone};

/// The shortest and the longest interval: one second and ten years.
pub const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=315_360_000;

/// When a schedule fires, as a client says it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurrence {
    /// At the times that this cron pattern names.
    Cron(String),
    /// Every so many seconds.
    EverySeconds(u64),
}

/// A moment that a schedule fires at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    /// The nominal time.
    pub at: DateTime<Utc>,
    /// Why it is not simply the time that the pattern names.
    pub change: Option<ClockChange>,
}

/// What a change of the clocks does to a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChange {
    /// The time that the pattern names does not exist that day.
    Missing(NaiveDateTime),
    /// It comes twice, and this is the first; the second does not fire.
    FirstOnly(NaiveDateTime),
    /// It comes twice, and this is the second; the first fires, too.
    Again(NaiveDateTime),
}

impl std::fmt::Display for ClockChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clock =
            |time: &NaiveDateTime| time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string();
        match self {
            Self::Missing(time) => {
                write!(f, "the clocks go forward over {}: it runs right after the gap", clock(time))
            }
            Self::FirstOnly(time) => {
                write!(f, "the clocks go back, and {} comes twice: it runs the first time only", clock(time))
            }
            Self::Again(time) => {
                write!(f, "the clocks go back: this is the second {}, as the pattern goes by elapsed time", clock(time))
            }
        }
    }
}

/// Why there is no such timing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTiming {
    /// The pattern is none.
    #[error(transparent)]
    Cron(#[from] BadCron),
    /// The zone is unknown.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

/// A recurrence in its zone, ready to be asked.
#[derive(Clone, Debug)]
pub struct Timing {
    pattern: Pattern,
    zone: Zone,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Cron(Box<Cron>),
    /// At `anchor` plus any multiple of `period`.
    Every {
        anchor: DateTime<Utc>,
        period: TimeDelta,
    },
}

impl Timing {
    /// Nothing fires before `starts_at` or after `ends_at`. Intervals are counted from `starts_at`, or else from `anchor`,
    /// which itself is no fire.
    ///
    /// # Errors
    /// [`BadTiming`] where the pattern or the zone is none.
    pub fn new(
        recurrence: &Recurrence,
        time_zone: &str,
        (starts_at, ends_at): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        anchor: DateTime<Utc>,
    ) -> Result<Self, BadTiming> {
        let pattern = match recurrence {
            Recurrence::Cron(text) => Pattern::Cron(Box::new(Cron::parse(text)?)),
            Recurrence::EverySeconds(seconds) => {
                let seconds = (*seconds).clamp(*INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end());
                let period = TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
                Pattern::Every { anchor: starts_at.unwrap_or(anchor + period), period }
            }
        };
        Ok(Self { pattern, zone: Zone::named(time_zone)?, starts_at, ends_at })
    }

    /// What the clocks of its zone show.
    #[must_use]
    pub fn local(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        self.zone.local(at)
    }

    /// The first fire after `time`; `None` if there is none any more.
    #[must_use]
    pub fn after(&self, time: DateTime<Utc>) -> Option<Fire> {
        let before_start = self.starts_at.map(|start| start - TimeDelta::microseconds(1));
        let time = before_start.map_or(time, |before| before.max(time));
        let fire = match &self.pattern {
            Pattern::Cron(cron) => self.cron_after(cron, time),
            Pattern::Every { anchor, period } => every_after(*anchor, *period, time),
        }?;
        Some(fire).filter(|fire| self.ends_at.is_none_or(|end| fire.at <= end))
    }

    /// The fires after `time`, in order.
    pub fn fires_after(&self, time: DateTime<Utc>) -> impl Iterator<Item = Fire> {
        std::iter::successors(self.after(time), |fire| self.after(fire.at))
    }

    /// The last fire after `time` and at or before `until`.
    #[must_use]
    pub fn last_between(&self, time: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = |time| self.after(time).map(|fire| fire.at).filter(|at| *at <= until);
        let (mut last, mut none_after) = (next(time)?, until);
        while let Some(following) = next(last) {
            let middle = last + (none_after - last) / 2;
            match next(middle) {
                Some(later) => last = later,
                None => (last, none_after) = (following, middle.max(following)),
            }
        }
        Some(last)
    }

    fn cron_after(&self, cron: &Cron, time: DateTime<Utc>) -> Option<Fire> {
        let clock = self.zone.local(time).naive_local();
        // What the clock showed before, it showed before `time`: the search begins here.
        let mut candidate = clock;
        let first = loop {
            candidate = cron.following(candidate)?;
            match self.zone.read(candidate) {
                Reading::Once(at) => break Fire { at, change: None },
                Reading::Never { resumes, shift } => {
                    if !cron.repeats_after(shift) {
                        break Fire { at: resumes, change: Some(ClockChange::Missing(candidate)) };
                    }
                }
                Reading::Twice { first, second, .. } => {
                    if first > time {
                        let both = cron.repeats_after((second - first).num_seconds());
                        let change = Some(ClockChange::FirstOnly(candidate)).filter(|_| !both);
                        break Fire { at: first, change };
                    }
                }
            }
        };
        match self.again_after(cron, time, clock) {
            Some(again) if again.at < first.at => Some(again),
            _ => Some(first),
        }
    }

    /// The next fire on a clock that has been put back, where the pattern goes by elapsed time.
    fn again_after(&self, cron: &Cron, time: DateTime<Utc>, clock: NaiveDateTime) -> Option<Fire> {
        let Reading::Twice { first, second, turn } = self.zone.read(clock) else { return None };
        if !cron.repeats_after((second - first).num_seconds()) {
            return None;
        }
        let candidate =
            if time < turn { cron.at_or_after(self.zone.local(turn).naive_local())? } else { cron.following(clock)? };
        match self.zone.read(candidate) {
            Reading::Twice { second, .. } => Some(Fire { at: second, change: Some(ClockChange::Again(candidate)) }),
            _ => None,
        }
    }
}

fn every_after(anchor: DateTime<Utc>, period: TimeDelta, time: DateTime<Utc>) -> Option<Fire> {
    if time < anchor {
        return Some(Fire { at: anchor, change: None });
    }
    let period = period.num_microseconds()?;
    let periods = (time - anchor).num_microseconds()? / period + 1;
    let at = anchor.checked_add_signed(TimeDelta::microseconds(periods.checked_mul(period)?))?;
    Some(Fire { at, change: None })
}

#[cfg(test)]
mod tests;
