//! Whether intake kept its promises: it needs no broker; without a database it says so, in time; and it comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::journal::{Reach, Window};
use super::load::{Attempt, Outcome};

/// Within which an API answers, whatever is wrong around it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Within which an API accepts again once the database is back.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// What a process that was stopped may take for what had piled up.
const AWAKE_WITHIN: Duration = Duration::from_secs(1);

/// How many findings of one sort are enough to see what is wrong.
const ENOUGH: usize = 5;

/// What is under [`Numbers::by_family`] for requests that met no fault.
pub(crate) const NO_FAULT: &str = "none";

/// What requests came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) by_family: BTreeMap<String, Answers>,
    /// How long each API took to accept again after the database was back, in milliseconds.
    pub(crate) recovery_ms: Vec<u32>,
}

/// What the requests that met a family of faults came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// How long each acceptance took, in microseconds.
    pub(crate) accepted_us: Vec<u32>,
    pub(crate) unavailable: u64,
    pub(crate) unanswered: u64,
}

impl Answers {
    fn count(&mut self, attempt: &Attempt) {
        match attempt.outcome {
            Outcome::Accepted => self.accepted_us.push(u32::try_from(attempt.took.as_micros()).unwrap_or(u32::MAX)),
            Outcome::Unavailable => self.unavailable += 1,
            Outcome::Wrong | Outcome::NoAnswer => self.unanswered += 1,
        }
    }
}

impl Window {
    /// Whether anything between these two times may feel it, so long after its end included.
    fn meets(&self, from: Duration, to: Duration, after: Duration) -> bool {
        self.began <= to && self.ended.is_none_or(|ended| ended + after >= from)
    }

    fn is_process(&self, api: usize) -> bool {
        self.reach == Reach::Process(api)
    }

    fn is_database(&self, api: usize) -> bool {
        self.reach == Reach::Database || self.reach == Reach::DatabaseOf(api)
    }
}

/// Judges every request; answers what to report, and what is wrong.
pub(crate) fn judge(attempts: &[Attempt], windows: &[Window], apis: usize) -> (Numbers, Vec<String>) {
    let mut numbers = Numbers::default();
    let mut findings: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for attempt in attempts {
        let (from, to) = (attempt.at, attempt.at + attempt.took);
        let mut families: Vec<&str> = windows
            .iter()
            .filter(|window| window.meets(from, to, Duration::ZERO))
            .map(|window| &*window.family)
            .collect();
        families.sort_unstable();
        families.dedup();
        if families.is_empty() {
            families.push(NO_FAULT);
        }
        for family in &families {
            numbers.by_family.entry((*family).to_owned()).or_default().count(attempt);
        }
        let met = |reached: fn(&Window, usize) -> bool, after| {
            windows.iter().any(|window| reached(window, attempt.api) && window.meets(from, to, after))
        };
        if met(Window::is_process, AWAKE_WITHIN) {
            continue;
        }
        let wrong = match attempt.outcome {
            Outcome::NoAnswer => "was not answered",
            Outcome::Unavailable if !met(Window::is_database, BACK_WITHIN) => {
                "was answered 503 although the database was there"
            }
            _ if attempt.took > ANSWERED_WITHIN => "was answered too late",
            _ => continue,
        };
        let what =
            format!("a submission to api {} {wrong}: {attempt:?}, during {}", attempt.api + 1, families.join(", "));
        findings.entry(wrong).or_default().push(what);
    }
    numbers.recovery_ms = (0..apis).flat_map(|api| recoveries(api, attempts, windows)).collect();
    let mut enough = Vec::new();
    for (sort, mut found) in findings {
        let more = found.len().saturating_sub(ENOUGH);
        found.truncate(ENOUGH);
        enough.extend(found);
        if more > 0 {
            enough.push(format!("and {more} more that {sort}"));
        }
    }
    (numbers, enough)
}

/// How long an API took to accept again, each time that the database came back and nothing else was wrong. That it is not too
/// long is judged request by request.
fn recoveries(api: usize, attempts: &[Attempt], windows: &[Window]) -> Vec<u32> {
    let ends = windows.iter().enumerate().filter_map(|(n, window)| {
        let ended = window.ended.filter(|_| window.is_database(api))?;
        let others = windows
            .iter()
            .enumerate()
            .filter(|(m, other)| *m != n && (other.is_database(api) || other.is_process(api)));
        let mut disturbing = others.filter(|(_, other)| other.meets(ended, ended + BACK_WITHIN, AWAKE_WITHIN));
        disturbing.next().is_none().then_some(ended)
    });
    ends.filter_map(|ended| {
        let accepted = attempts.iter().filter(|attempt| attempt.api == api && attempt.outcome == Outcome::Accepted);
        let after = accepted.filter_map(|attempt| (attempt.at + attempt.took).checked_sub(ended)).min()?;
        u32::try_from(after.as_millis()).ok()
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn window(reach: Reach, from: u64, to: u64) -> Window {
        Window { family: "f".into(), what: String::new(), reach, began: at(from), ended: Some(at(to)) }
    }

    fn attempt(from: u64, took: u64, outcome: Outcome) -> Attempt {
        Attempt { api: 0, at: at(from), took: at(took), outcome }
    }

    fn is_wrong(attempt: Attempt, windows: &[Window]) -> bool {
        !judge(&[attempt], windows, 2).1.is_empty()
    }

    #[test]
    fn without_a_fault_everything_is_accepted_in_time() {
        assert!(!is_wrong(attempt(0, 4000, Outcome::Accepted), &[]));
        assert!(is_wrong(attempt(0, 5001, Outcome::Accepted), &[]));
        assert!(is_wrong(attempt(0, 10, Outcome::Unavailable), &[]));
        assert!(is_wrong(attempt(0, 10, Outcome::NoAnswer), &[]));
    }

    #[test]
    fn a_broker_is_no_excuse() {
        let broker = [window(Reach::Nobody, 0, 1000)];
        assert!(is_wrong(attempt(500, 10, Outcome::Unavailable), &broker));
        assert!(is_wrong(attempt(500, 10, Outcome::NoAnswer), &broker));
    }

    #[test]
    fn without_a_database_it_says_so_in_time_and_comes_back_in_time() {
        for reach in [Reach::Database, Reach::DatabaseOf(0)] {
            let database = [window(reach, 1000, 2000)];
            assert!(!is_wrong(attempt(1500, 4000, Outcome::Unavailable), &database));
            assert!(is_wrong(attempt(1500, 5001, Outcome::Unavailable), &database));
            assert!(is_wrong(attempt(1500, 10, Outcome::NoAnswer), &database));
            assert!(!is_wrong(attempt(6900, 10, Outcome::Unavailable), &database));
            assert!(is_wrong(attempt(7100, 10, Outcome::Unavailable), &database));
        }
        assert!(is_wrong(attempt(1500, 10, Outcome::Unavailable), &[window(Reach::DatabaseOf(1), 1000, 2000)]));
    }

    #[test]
    fn a_process_that_is_stopped_owes_nothing() {
        assert!(!is_wrong(attempt(500, 9000, Outcome::NoAnswer), &[window(Reach::Process(0), 1000, 8000)]));
        assert!(is_wrong(attempt(500, 9000, Outcome::NoAnswer), &[window(Reach::Process(1), 1000, 8000)]));
    }

    #[test]
    fn recovery_counts_from_the_moment_the_database_is_back() {
        let windows = [window(Reach::Database, 1000, 2000)];
        let attempts = [attempt(1500, 100, Outcome::Unavailable), attempt(1900, 350, Outcome::Accepted)];
        assert_eq!(judge(&attempts, &windows, 1).0.recovery_ms, [250]);
    }
}
