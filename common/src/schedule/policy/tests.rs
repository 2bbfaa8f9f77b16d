//! Decisions, as a timeline: `fired 10:00` and so on.

use super::*;
use crate::schedule::Recurrence;

fn at(time: &str) -> DateTime<Utc> {
    format!("2026-11-23T{time}Z").parse().expect("a time")
}

fn every(seconds: u64) -> Timing {
    let recurrence = Recurrence::EverySeconds(seconds);
    Timing::new(&recurrence, "UTC", (Some(at("00:00:00")), None), at("00:00:00")).expect("a timing")
}

fn told(plan: &Plan) -> Vec<String> {
    let clock = |time: DateTime<Utc>| time.format("%H:%M").to_string();
    let told = |verdict: &Verdict| {
        let mut text = format!("{} {}", verdict.outcome.as_str(), clock(verdict.fire_at));
        if verdict.count > 1 {
            text += &format!("-{} ({})", clock(verdict.through), verdict.count);
        }
        text + verdict.reason.map_or("", |reason| if reason == Reason::Missed { " missed" } else { " overlap" })
    };
    plan.verdicts.iter().map(told).collect()
}

/// An hourly schedule whose next fire is at 10:00, at this time.
fn hourly(missed: Missed, overlap: Overlap, now: &str, busy: bool) -> Plan {
    let situation = Situation { next_at: at("10:00:00"), now: at(now), busy, waiting: 0, at_once: 100 };
    plan(&every(3600), missed, 3, overlap, situation)
}

#[test]
fn a_fire_that_is_seen_to_in_time_is_fired_whatever_the_policy() {
    for missed in Missed::ALL {
        for now in ["10:00:00", "10:00:59"] {
            let plan = hourly(*missed, Overlap::Skip, now, false);
            assert_eq!(told(&plan), ["fired 10:00"], "{missed:?} at {now}");
            assert_eq!(plan.next_at, Some(at("11:00:00")));
        }
    }
}

#[test]
fn missed_fires_are_skipped_made_up_for_by_one_or_each() {
    use Missed::{All, One, Skip};
    for (missed, now, expected) in [
        (Skip, "10:05:00", &["skipped 10:00 missed"][..]),
        (Skip, "14:05:00", &["skipped 10:00-14:00 (5) missed"]),
        (Skip, "14:00:10", &["skipped 10:00-13:00 (4) missed", "fired 14:00"]),
        (One, "10:05:00", &["caught_up 10:00 missed"]),
        (One, "14:05:00", &["skipped 10:00-13:00 (4) missed", "caught_up 14:00 missed"]),
        (One, "14:00:10", &["skipped 10:00-13:00 (4) missed", "fired 14:00"]),
        (All, "10:05:00", &["caught_up 10:00 missed"]),
        (All, "11:05:00", &["caught_up 10:00 missed", "caught_up 11:00 missed"]),
        (
            All,
            "14:00:10",
            &["skipped 10:00-11:00 (2) missed", "caught_up 12:00 missed", "caught_up 13:00 missed", "fired 14:00"],
        ),
    ] {
        let plan = hourly(missed, Overlap::Allow, now, false);
        assert_eq!(told(&plan), expected, "{missed:?} at {now}");
        assert!(plan.next_at.is_some_and(|next| next > at(now)), "{missed:?} at {now}");
        assert!(!plan.cancel_previous);
    }
}

#[test]
fn a_fire_that_finds_the_last_job_running_goes_by_its_policy() {
    use Overlap::{Allow, CancelPrevious, Queue, Skip};
    for (overlap, expected, cancels) in [
        (Allow, "fired 10:00", false),
        (Skip, "skipped 10:00 overlap", false),
        (Queue, "waiting 10:00 overlap", false),
        (CancelPrevious, "fired 10:00", true),
    ] {
        let plan = hourly(Missed::One, overlap, "10:00:00", true);
        assert_eq!((told(&plan), plan.cancel_previous), (vec![expected.to_owned()], cancels), "{overlap:?}");
    }
    assert!(!hourly(Missed::One, CancelPrevious, "10:00:00", false).cancel_previous, "there is nothing to cancel");
}

/// What is made up for one by one must not be undone by the policy for overlaps.
#[test]
fn fires_that_are_made_up_for_run_one_after_the_other_unless_they_may_overlap() {
    use Overlap::{Allow, CancelPrevious, Queue, Skip};
    let rest = ["waiting 11:00 missed", "waiting 12:00 overlap"];
    for (overlap, busy, expected) in [
        (Allow, true, vec!["caught_up 10:00 missed", "caught_up 11:00 missed", "fired 12:00"]),
        (Skip, false, [&["caught_up 10:00 missed"][..], &rest].concat()),
        (Queue, false, [&["caught_up 10:00 missed"][..], &rest].concat()),
        (Skip, true, [&["waiting 10:00 missed"][..], &rest].concat()),
        (Queue, true, [&["waiting 10:00 missed"][..], &rest].concat()),
        (CancelPrevious, true, vec!["skipped 10:00-11:00 (2) overlap", "fired 12:00"]),
        (CancelPrevious, false, vec!["skipped 10:00-11:00 (2) overlap", "fired 12:00"]),
    ] {
        let plan = hourly(Missed::All, overlap, "12:00:10", busy);
        assert_eq!(told(&plan), expected, "{overlap:?} {busy}");
        assert_eq!(plan.cancel_previous, overlap == CancelPrevious && busy);
    }
    assert_eq!(told(&hourly(Missed::One, Skip, "10:05:00", true)), ["skipped 10:00 overlap"]);
}

#[test]
fn no_more_wait_than_may() {
    let situation =
        Situation { next_at: at("10:00:00"), now: at("12:00:10"), busy: true, waiting: MAX_WAITING - 1, at_once: 100 };
    let plan = plan(&every(3600), Missed::All, 3, Overlap::Queue, situation);
    assert_eq!(told(&plan), ["waiting 10:00 missed", "skipped 11:00-12:00 (2) overlap"]);
}

#[test]
fn a_long_absence_is_counted_up_to_a_limit_and_made_up_for_in_portions() {
    let every_second = every(1);
    let mut situation =
        Situation { next_at: at("01:00:00"), now: at("23:00:00"), busy: false, waiting: 0, at_once: 100 };
    let first = plan(&every_second, Missed::All, 250, Overlap::Allow, situation);
    assert_eq!(first.verdicts[0].count, COUNTED);
    assert_eq!(first.verdicts[0].through, at("22:55:50"));
    assert_eq!(first.verdicts[1].fire_at, at("22:55:51"));
    let mut portions = vec![first.verdicts.len() - 1];
    let mut next_at = first.next_at.expect("there is a next");
    while next_at < situation.now {
        situation.next_at = next_at;
        let portion = plan(&every_second, Missed::All, 250, Overlap::Allow, situation);
        portions.push(portion.verdicts.len());
        next_at = portion.next_at.expect("there is a next");
    }
    assert_eq!((portions, next_at), (vec![100, 100, 50], at("23:00:01")));
}

#[test]
fn a_quick_schedule_is_late_sooner_than_a_slow_one() {
    let late = |seconds: u64, late_by: i64| {
        let now = at("10:00:00") + TimeDelta::seconds(late_by);
        let situation = Situation { next_at: at("10:00:00"), now, busy: false, waiting: 0, at_once: 100 };
        told(&plan(&every(seconds), Missed::Skip, 3, Overlap::Skip, situation))[0].starts_with("skipped")
    };
    assert!(!late(10, 5) && late(10, 6));
    assert!(!late(86_400, 60) && late(86_400, 61));
}

#[test]
fn the_last_fire_of_all_has_no_next() {
    let recurrence = Recurrence::EverySeconds(3600);
    let bounds = (Some(at("00:00:00")), Some(at("10:30:00")));
    let timing = Timing::new(&recurrence, "UTC", bounds, at("00:00:00")).expect("a timing");
    let situation = Situation { next_at: at("10:00:00"), now: at("10:00:00"), busy: false, waiting: 0, at_once: 100 };
    let plan = plan(&timing, Missed::One, 3, Overlap::Skip, situation);
    assert_eq!((told(&plan), plan.next_at), (vec!["fired 10:00".to_owned()], None));
}
