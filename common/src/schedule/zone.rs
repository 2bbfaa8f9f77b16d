//! Time zones: between points in time and what the clocks of a place show.
//!
//! The IANA database is compiled in, and no other is looked at: a preview shows what every worker will do, and a minimal
//! image has all it needs.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Offset as _, TimeDelta, Timelike, Utc};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

/// Zones that were asked for before are kept in it, parsed.
static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone of the IANA database.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

/// There is no such zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time zone of the IANA database, such as Europe/Berlin or UTC")]
pub struct UnknownZone(String);

/// What a reading of the clock stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A point in time.
    Once(DateTime<Utc>),
    /// None: the clock is put forward over it.
    Never {
        /// The first moment after the gap.
        resumes: DateTime<Utc>,
        /// By how many seconds the clock is put forward.
        shift: i64,
    },
    /// Two: the clock is put back over it.
    Twice {
        /// Before the clock is put back.
        first: DateTime<Utc>,
        /// After it.
        second: DateTime<Utc>,
        /// When it is put back.
        turn: DateTime<Utc>,
    },
}

impl Zone {
    /// The zone with this name.
    ///
    /// # Errors
    /// [`UnknownZone`] if there is none.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let zone = DATABASE.get(name).ok().filter(|zone| zone.iana_name() == Some(name));
        zone.map(Self).ok_or_else(|| UnknownZone(name.chars().take(100).collect()))
    }

    /// Every name there is.
    #[must_use]
    pub fn names() -> Vec<String> {
        DATABASE.available().map(|name| name.to_string()).collect()
    }

    /// What the clocks show, with the offset that is in force.
    #[must_use]
    pub fn local(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        let offset = self.0.to_offset(timestamp(at));
        at.with_timezone(&FixedOffset::east_opt(offset.seconds()).unwrap_or_else(|| Utc.fix()))
    }

    /// What a reading of the clock, in whole seconds, stands for.
    #[must_use]
    pub(super) fn read(&self, clock: NaiveDateTime) -> Reading {
        match self.0.to_ambiguous_timestamp(civil(clock)).offset() {
            AmbiguousOffset::Unambiguous { offset } => Reading::Once(instant(clock, offset)),
            AmbiguousOffset::Gap { before, after } => Reading::Never {
                resumes: self.change(instant(clock, after), after),
                shift: i64::from(after.seconds() - before.seconds()),
            },
            AmbiguousOffset::Fold { before, after } => {
                let first = instant(clock, before);
                Reading::Twice { first, second: instant(clock, after), turn: self.change(first, after) }
            }
        }
    }

    /// When this offset comes into force after `from`.
    fn change(&self, from: DateTime<Utc>, to: Offset) -> DateTime<Utc> {
        let mut changes = self.0.following(timestamp(from));
        let change = changes.find(|change| change.offset() == to).map(|change| change.timestamp());
        change.and_then(|at| DateTime::from_timestamp(at.as_second(), 0)).unwrap_or(from)
    }
}

/// Beyond the years 0 to 9999 no fire is looked for.
fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_microsecond(at.timestamp_micros()).unwrap_or(if at.timestamp() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn civil(clock: NaiveDateTime) -> civil::DateTime {
    let small = |number: u32| i8::try_from(number).unwrap_or(0);
    let (year, month, day) = (i16::try_from(clock.year()).unwrap_or(9999), small(clock.month()), small(clock.day()));
    let (hour, minute, second) = (small(clock.hour()), small(clock.minute()), small(clock.second()));
    civil::DateTime::new(year, month, day, hour, minute, second, 0).unwrap_or(civil::DateTime::MAX)
}

fn instant(clock: NaiveDateTime, offset: Offset) -> DateTime<Utc> {
    clock.and_utc() - TimeDelta::seconds(offset.seconds().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn read(zone: &str, clock: &str) -> Reading {
        Zone::named(zone).expect("a zone").read(clock.parse().expect("a reading"))
    }

    #[test]
    fn a_reading_stands_for_one_two_or_no_points_in_time() {
        assert_eq!(read("Europe/Berlin", "2026-11-23T09:30:00"), Reading::Once(utc("2026-11-23T08:30:00Z")));
        let gap = Reading::Never { resumes: utc("2026-03-29T01:00:00Z"), shift: 3600 };
        assert_eq!(read("Europe/Berlin", "2026-03-29T02:00:00"), gap);
        assert_eq!(read("Europe/Berlin", "2026-03-29T02:59:59"), gap);
        let fold = Reading::Twice {
            first: utc("2026-10-25T00:30:00Z"),
            second: utc("2026-10-25T01:30:00Z"),
            turn: utc("2026-10-25T01:00:00Z"),
        };
        assert_eq!(read("Europe/Berlin", "2026-10-25T02:30:00"), fold);
        let half = Reading::Never { resumes: utc("2026-10-03T15:30:00Z"), shift: 1800 };
        assert_eq!(read("Australia/Lord_Howe", "2026-10-04T02:15:00"), half);
    }

    #[test]
    fn clocks_show_the_offset_in_force() {
        let zone = Zone::named("Asia/Kolkata").expect("a zone");
        assert_eq!(zone.local(utc("2026-11-23T09:30:00.5Z")).to_rfc3339(), "2026-11-23T15:00:00.500+05:30");
    }

    #[test]
    fn only_names_of_the_database_are_zones() {
        for name in Zone::names() {
            assert!(Zone::named(&name).is_ok(), "{name}");
        }
        for name in ["", "Berlin", "europe/berlin", "+02:00", "Etc/Unknown", "localtime", "../etc/passwd"] {
            assert!(Zone::named(name).is_err(), "{name}");
        }
    }
}
