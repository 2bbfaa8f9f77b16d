//! When schedules fire, shown by days on which clocks change.

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn cron(pattern: &str, zone: &str) -> Timing {
    let recurrence = Recurrence::Cron(pattern.to_owned());
    Timing::new(&recurrence, zone, (None, None), utc("2026-01-01T00:00:00Z")).expect("a timing")
}

/// The local times of the fires of a day in UTC, with the hour of the offset.
fn day(pattern: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let timing = cron(pattern, zone);
    let from = utc(from) - TimeDelta::microseconds(1);
    let fires = timing.fires_after(from).take_while(|fire| fire.at < utc(until));
    fires.map(|fire| timing.local(fire.at).format("%d %H:%M %:z").to_string()).collect()
}

const BERLIN: &str = "Europe/Berlin";
const SPRING: (&str, &str) = ("2026-03-28T23:00:00Z", "2026-03-29T04:00:00Z");
const AUTUMN: (&str, &str) = ("2026-10-24T22:00:00Z", "2026-10-25T04:00:00Z");

#[test]
fn a_time_that_does_not_exist_fires_right_after_the_gap() {
    let spring = |pattern| day(pattern, BERLIN, SPRING.0, SPRING.1);
    assert_eq!(spring("30 2 * * *"), ["29 03:00 +02:00"]);
    assert_eq!(spring("0 3 * * *"), ["29 03:00 +02:00"]);
    assert_eq!(spring("*/20 2 * * *"), ["29 03:00 +02:00"], "once for all of them");
    assert_eq!(spring("30 1,2,3 * * *"), ["29 01:30 +01:00", "29 03:00 +02:00", "29 03:30 +02:00"]);
    // Nothing runs in every hour here: nothing is left out, and nothing is late by more than the gap.
    assert_eq!(spring("0 */2 * * *"), ["29 00:00 +01:00", "29 03:00 +02:00", "29 04:00 +02:00"]);
}

#[test]
fn a_time_that_comes_twice_fires_the_first_time() {
    let autumn = |pattern| day(pattern, BERLIN, AUTUMN.0, AUTUMN.1);
    assert_eq!(autumn("30 2 * * *"), ["25 02:30 +02:00"]);
    assert_eq!(autumn("*/30 2 * * *"), ["25 02:00 +02:00", "25 02:30 +02:00"]);
    assert_eq!(autumn("0 */2 * * *"), ["25 00:00 +02:00", "25 02:00 +02:00", "25 04:00 +01:00"]);
}

#[test]
fn a_pattern_that_runs_in_every_hour_goes_by_elapsed_time() {
    let spring = day("30 * * * *", BERLIN, SPRING.0, SPRING.1);
    assert_eq!(spring[..4], ["29 00:30 +01:00", "29 01:30 +01:00", "29 03:30 +02:00", "29 04:30 +02:00"]);
    let autumn = day("30 0-23 * * *", BERLIN, AUTUMN.0, AUTUMN.1);
    assert_eq!(
        autumn,
        ["00:30 +02:00", "01:30 +02:00", "02:30 +02:00", "02:30 +01:00", "03:30 +01:00", "04:30 +01:00"]
            .map(|time| format!("25 {time}"))
    );
    for (pattern, step) in [("* * * * *", 60), ("*/15 * * * *", 900), ("@hourly", 3600), ("*/30 * * * * *", 30)] {
        for (from, until) in [SPRING, AUTUMN] {
            let timing = cron(pattern, BERLIN);
            let fires = timing.fires_after(utc(from)).take_while(|fire| fire.at < utc(until));
            let times: Vec<_> = fires.map(|fire| fire.at.timestamp()).collect();
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] == step), "{pattern}: {times:?}");
        }
    }
}

/// Half an hour: what repeats itself after it goes on, what does not is treated as a time of day.
#[test]
fn clocks_that_change_by_half_an_hour() {
    let autumn = ("2026-04-04T14:00:00Z", "2026-04-04T17:00:00Z");
    let lord_howe = |pattern| day(pattern, "Australia/Lord_Howe", autumn.0, autumn.1);
    assert_eq!(lord_howe("45 * * * *"), ["05 01:45 +11:00", "05 02:45 +10:30"]);
    assert_eq!(
        lord_howe("*/30 * * * *"),
        ["01:00 +11:00", "01:30 +11:00", "01:30 +10:30", "02:00 +10:30", "02:30 +10:30", "03:00 +10:30"]
            .map(|time| format!("05 {time}"))
    );
    let spring = ("2026-10-03T14:00:00Z", "2026-10-03T17:30:00Z");
    let lord_howe = |pattern| day(pattern, "Australia/Lord_Howe", spring.0, spring.1);
    assert_eq!(lord_howe("0 * * * *"), ["04 01:00 +10:30", "04 02:30 +11:00", "04 03:00 +11:00", "04 04:00 +11:00"]);
}

#[test]
fn a_change_of_the_clocks_is_told() {
    let note = |pattern, from| {
        let fire = cron(pattern, BERLIN).after(utc(from)).expect("a fire");
        fire.change.map(|change| change.to_string()).unwrap_or_default()
    };
    assert_eq!(
        note("30 2 * * *", "2026-03-28T12:00:00Z"),
        "the clocks go forward over 02:30: it runs right after the gap"
    );
    assert_eq!(
        note("0 2 * * *", "2026-10-24T12:00:00Z"),
        "the clocks go back, and 02:00 comes twice: it runs the first time only"
    );
    assert_eq!(
        note("0 * * * *", "2026-10-25T00:30:00Z"),
        "the clocks go back: this is the second 02:00, as the pattern goes by elapsed time"
    );
    assert_eq!(note("0 * * * *", "2026-10-25T12:30:00Z"), "");
}

#[test]
fn a_start_and_an_end_are_part_of_the_time_between() {
    let bounds = (Some(utc("2026-05-01T10:00:00Z")), Some(utc("2026-05-01T12:00:00Z")));
    let fires = |recurrence: Recurrence, bounds| -> Vec<String> {
        let timing = Timing::new(&recurrence, "UTC", bounds, utc("2026-05-01T09:00:30Z")).expect("a timing");
        let fires = timing.fires_after(utc("2026-05-01T09:00:30Z")).take(3);
        fires.map(|fire| fire.at.format("%H:%M:%S").to_string()).collect()
    };
    assert_eq!(fires(Recurrence::Cron("@hourly".into()), bounds), ["10:00:00", "11:00:00", "12:00:00"]);
    assert_eq!(fires(Recurrence::EverySeconds(4500), bounds), ["10:00:00", "11:15:00"]);
    assert_eq!(fires(Recurrence::EverySeconds(4500), (None, bounds.1)), ["10:15:30", "11:30:30"]);
    let ended = (None, Some(utc("2026-04-01T00:00:00Z")));
    assert!(
        fires(Recurrence::EverySeconds(1), ended).is_empty()
            && fires(Recurrence::Cron("@daily".into()), ended).is_empty()
    );
}

#[test]
fn the_last_fire_is_found_without_counting_them_all() {
    let until = utc("2026-11-23T09:30:15.5Z");
    let last = |pattern: &str, from: &str| {
        let last = cron(pattern, "Europe/London").last_between(utc(from), until);
        last.map_or("none".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
    };
    for (pattern, from, expected) in [
        ("* * * * * *", "2020-01-01T00:00:00Z", "2026-11-23 09:30:15"),
        ("* * * * * *", "2026-11-23T09:30:14Z", "2026-11-23 09:30:15"),
        ("* * * * * *", "2026-11-23T09:30:15Z", "none"),
        ("30 9 * * *", "2025-01-01T00:00:00Z", "2026-11-23 09:30:00"),
        ("* * 1 1 *", "2020-01-01T00:00:00Z", "2026-01-01 23:59:00"),
        ("0 0 29 2 *", "2020-01-01T00:00:00Z", "2024-02-29 00:00:00"),
        ("0 0 30 2 *", "2020-01-01T00:00:00Z", "none"),
    ] {
        assert_eq!(last(pattern, from), expected, "{pattern} from {from}");
    }
}
