//! Cron patterns: which times of which days of a calendar match, without any time zone.

use chrono::NaiveDateTime;
use croner::parser::{CronParser, Seconds, Year};

const MINUTES_PER_DAY: usize = 24 * 60;

/// A cron pattern: five fields, or six with seconds in front, or a nickname such as `@hourly`.
#[derive(Clone, Debug)]
pub(super) struct Cron(croner::Cron);

/// The text is no cron pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cron pattern: {0}")]
pub struct BadCron(String);

impl Cron {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadCron`] says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, BadCron> {
        let text = text.trim();
        // The one nickname of Vixie cron that croner does not know.
        let pattern = if text.eq_ignore_ascii_case("@midnight") { "@daily" } else { text };
        if pattern.starts_with('@') && !NICKNAMES.iter().any(|known| known.eq_ignore_ascii_case(pattern)) {
            return Err(BadCron(format!("the nicknames are {}, @midnight", NICKNAMES.join(", "))));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        parser.parse(pattern).map(Self).map_err(|error| BadCron(decapitalised(&error.to_string())))
    }

    /// The first match after `time`, in the calendar; `None` if there is none, ever.
    pub(super) fn following(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        self.0.find_next_occurrence(&time, false).ok()
    }

    /// The first match at or after `time`.
    pub(super) fn at_or_after(&self, time: NaiveDateTime) -> Option<NaiveDateTime> {
        self.0.find_next_occurrence(&time, true).ok()
    }

    /// Whether the times of a day that match stay the same when all of them are moved by so many seconds. A pattern that
    /// runs in every hour repeats after 3600: to it, a clock that is put forward by an hour shows nothing new.
    pub(super) fn repeats_after(&self, seconds: i64) -> bool {
        let Ok(minutes) = usize::try_from(seconds.abs() / 60) else { return false };
        if seconds % 60 != 0 {
            return false;
        }
        let pattern = &self.0.pattern;
        let mut matching = [false; MINUTES_PER_DAY];
        for hour in pattern.hours.values() {
            for minute in pattern.minutes.values() {
                matching[usize::from(hour) * 60 + usize::from(minute)] = true;
            }
        }
        (0..MINUTES_PER_DAY).all(|minute| matching[minute] == matching[(minute + minutes) % MINUTES_PER_DAY])
    }
}

const NICKNAMES: [&str; 6] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

fn decapitalised(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pattern: &str, after: &str) -> String {
        let after = after.parse().expect("a time");
        Cron::parse(pattern).expect("a pattern").following(after).map_or("never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn fields_names_ranges_and_nicknames_are_understood() {
        // A Monday.
        let after = "2026-11-23T09:30:15";
        for (pattern, expected) in [
            ("* * * * *", "2026-11-23 09:31:00"),
            ("* * * * * *", "2026-11-23 09:30:16"),
            ("*/20 * * * * *", "2026-11-23 09:30:20"),
            ("*/15 8-18 * * MON-FRI", "2026-11-23 09:45:00"),
            ("0 9 * * mon,wed", "2026-11-25 09:00:00"),
            ("30 6 1 JAN *", "2027-01-01 06:30:00"),
            ("0 0 * * 7", "2026-11-29 00:00:00"),
            ("0 0 29 2 *", "2028-02-29 00:00:00"),
            ("0 0 L * *", "2026-11-30 00:00:00"),
            ("@hourly", "2026-11-23 10:00:00"),
            ("@daily", "2026-11-24 00:00:00"),
            ("@midnight", "2026-11-24 00:00:00"),
            ("@weekly", "2026-11-29 00:00:00"),
            ("@monthly", "2026-12-01 00:00:00"),
            ("@yearly", "2027-01-01 00:00:00"),
            ("0 0 30 2 *", "never"),
        ] {
            assert_eq!(first(pattern, after), expected, "{pattern}");
        }
    }

    /// As in Vixie cron: where both are given, either may match.
    #[test]
    fn a_day_of_the_month_or_one_of_the_week() {
        assert_eq!(first("0 0 13 * FRI", "2026-11-09T00:00:00"), "2026-11-13 00:00:00");
        assert_eq!(first("0 0 13 * FRI", "2026-11-13T00:00:00"), "2026-11-20 00:00:00");
    }

    #[test]
    fn what_is_no_pattern_is_explained() {
        for bad in
            ["", "* * * *", "* * * * * * *", "60 * * * *", "*/0 * * * *", "5-1 * * * *", "a * * * *", "@reboot", "@"]
        {
            let error = Cron::parse(bad).expect_err(bad).to_string();
            assert!(error.starts_with("is not a cron pattern: "), "{error}");
        }
        assert!(Cron::parse("@reboot").expect_err("no time").to_string().contains("@hourly"));
    }

    #[test]
    fn a_pattern_repeats_by_its_times_of_day() {
        const HALF: i64 = 1800;
        const HOUR: i64 = 3600;
        for (pattern, shifts) in [
            ("* * * * *", &[HALF, HOUR, 2 * HOUR, -HOUR][..]),
            ("*/15 * * * MON", &[HALF, HOUR, 2 * HOUR]),
            ("30 * * * *", &[HOUR, 2 * HOUR]),
            ("30 0-23 1 * *", &[HOUR, 2 * HOUR]),
            ("0 */2 * * *", &[2 * HOUR]),
            ("0 2 * * *", &[]),
            ("*/5 8-18 * * *", &[]),
        ] {
            let cron = Cron::parse(pattern).expect("a pattern");
            for shift in [HALF, HOUR, 2 * HOUR, -HOUR, 1] {
                let expected = shifts.contains(&shift) || shifts.contains(&-shift);
                assert_eq!(cron.repeats_after(shift), expected, "{pattern} by {shift} s");
            }
        }
    }
}
