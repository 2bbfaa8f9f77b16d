//! What many runs came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Outcome;
use super::audit::Audited;
use super::intake::{Answers, NO_FAULT};

/// The sum of runs.
#[derive(Default)]
pub(crate) struct Report {
    runs: u64,
    seconds: f64,
    failed_seeds: Vec<u64>,
    audited: Audited,
    counts: BTreeMap<String, u64>,
    answers: BTreeMap<String, Answers>,
    recovery_ms: Vec<u32>,
}

impl Report {
    /// Adds a run.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.seconds += outcome.took.as_secs_f64();
        if !outcome.findings.is_empty() {
            self.failed_seeds.push(outcome.plan.seed);
        }
        self.audited += outcome.audited;
        outcome.counts.into_iter().for_each(|(what, count)| *self.counts.entry(what).or_default() += count);
        for (family, answers) in outcome.intake.by_family {
            let sum = self.answers.entry(family).or_default();
            sum.accepted_us.extend(answers.accepted_us);
            sum.unavailable += answers.unavailable;
            sum.unanswered += answers.unanswered;
        }
        self.recovery_ms.extend(outcome.intake.recovery_ms);
    }

    /// The seeds of the runs that failed.
    pub(crate) fn failed_seeds(&self) -> &[u64] {
        &self.failed_seeds
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Audited { accepted, lost, ledger_missing, ledger_doubled, succeeded, failed, cancelled, .. } = self.audited;
        let answers = |answers: &Answers| {
            let [p50, p99, max] = quantiles(&answers.accepted_us).map(|us| f64::from(us) / 1000.0);
            json!({
                "202": answers.accepted_us.len(), "503": answers.unavailable, "unanswered": answers.unanswered,
                "accepted_ms": {"p50": p50, "p99": p99, "max": max},
            })
        };
        let [p50, p99, max] = quantiles(&self.recovery_ms);
        json!({
            "runs": self.runs,
            "seconds": self.seconds,
            "failed_seeds": self.failed_seeds,
            "jobs": {
                "accepted": accepted, "lost": lost, "succeeded": succeeded, "failed": failed, "cancelled": cancelled,
                "worker_lost": self.audited.worker_lost,
            },
            "ledger": {"missing": ledger_missing, "doubled": ledger_doubled},
            "batches": self.audited.batches,
            "fires": self.audited.fires,
            "callbacks": self.audited.told,
            "workers_reaped": self.audited.reaped,
            "counts": self.counts,
            "submissions_during": self.answers.iter().map(|(family, of)| (family, answers(of))).collect::<BTreeMap<_, _>>(),
            "accepting_again_after_ms": {"times": self.recovery_ms.len(), "p50": p50, "p99": p99, "max": max},
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let a = &self.audited;
        let mut text = format!("{} runs, {} failed {:?}\n", self.runs, self.failed_seeds.len(), self.failed_seeds);
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).and_then(|()| text.write_str("\n")).expect("to a string");
        };
        line(format_args!(
            "{} jobs submitted one by one, {} batches, {} fires of schedules, {} callbacks",
            a.accepted, a.batches, a.fires, a.told
        ));
        line(format_args!(
            "all jobs of these: {} lost, {} succeeded, {} failed ({} with worker_lost), {} cancelled",
            a.lost, a.succeeded, a.failed, a.worker_lost, a.cancelled
        ));
        line(format_args!("ledger rows: {} missing, {} doubled", a.ledger_missing, a.ledger_doubled));
        line(format_args!("workers taken for dead: {}", a.reaped));
        let [p50, p99, max] = quantiles(&self.recovery_ms);
        let times = self.recovery_ms.len();
        line(format_args!(
            "accepting again after the database was back, {times} times: p50 {p50} ms, p99 {p99} ms, max {max} ms"
        ));
        line(format_args!(
            "\n{:<32}{:>8}{:>9}{:>8}{:>11}   accepted in ms: {:>8}{:>10}{:>10}",
            "submissions during", "faults", "202", "503", "unanswered", "p50", "p99", "max"
        ));
        let (none, families): (Vec<_>, Vec<_>) = self.answers.iter().partition(|(family, _)| *family == NO_FAULT);
        for (family, answers) in none.into_iter().chain(families) {
            let faults = self.counts.get(&format!("fault.{family}")).copied().unwrap_or(0);
            let [p50, p99, max] = quantiles(&answers.accepted_us).map(|us| f64::from(us) / 1000.0);
            line(format_args!(
                "{family:<32}{faults:>8}{:>9}{:>8}{:>11}                   {p50:>8.1}{p99:>10.1}{max:>10.1}",
                answers.accepted_us.len(),
                answers.unavailable,
                answers.unanswered
            ));
        }
        line(format_args!("\nsteps at which a process ended or was stopped"));
        for (what, count) in &self.counts {
            if let Some(step) = what.strip_prefix("step.") {
                line(format_args!("{step:<32}{count:>8}"));
            }
        }
        text
    }
}

impl std::ops::AddAssign for Audited {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.batches += other.batches;
        self.fires += other.fires;
        self.told += other.told;
        self.lost += other.lost;
        self.ledger_missing += other.ledger_missing;
        self.ledger_doubled += other.ledger_doubled;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.worker_lost += other.worker_lost;
        self.reaped += other.reaped;
    }
}

/// The median, the 99th percentile and the greatest; zeroes of nothing.
fn quantiles(values: &[u32]) -> [u32; 3] {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| {
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    };
    [at(0.5), at(0.99), at(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(quantiles(&[]), [0, 0, 0]);
        assert_eq!(quantiles(&[7]), [7, 7, 7]);
        let hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(quantiles(&hundred), [50, 99, 100]);
    }
}
