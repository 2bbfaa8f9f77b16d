//! How an audit is shown.

use std::io;

use offload_common::audit::{Outcome, Report};
use serde_json::json;

use crate::output::{line, printable};

/// One JSON document.
pub(super) fn json(outcome: &Outcome) -> io::Result<()> {
    line(json!({"clean": outcome.is_clean(), "checks": outcome.reports}))
}

/// A line per check, and below it what was found.
pub(super) fn text(outcome: &Outcome) -> io::Result<()> {
    outcome.reports.iter().try_for_each(check)?;
    let found: u64 = outcome.reports.iter().map(|report| report.findings.len() as u64 + report.omitted).sum();
    line(match found {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        found => format!("{found} things are wrong"),
    })
}

fn check(report: &Report) -> io::Result<()> {
    let verdict = if report.is_clean() { "ok" } else { "WRONG" };
    line(format_args!("{verdict:<7}{:<10}{} {}", report.check, report.looked_at, report.of))?;
    for (n, finding) in report.findings.iter().enumerate() {
        let jobs: Vec<String> = finding.jobs.iter().map(ToString::to_string).collect();
        let colon = if jobs.is_empty() { "" } else { ": " };
        line(format_args!("       {}{colon}{}", jobs.join(" "), printable(&finding.problem)))?;
        // What to do, once for all that it is to be done about.
        if report.findings.get(n + 1).is_none_or(|next| next.advice != finding.advice) {
            line(format_args!("         what to do: {}", finding.advice))?;
        }
    }
    if report.omitted > 0 {
        line(format_args!("       and {} more", report.omitted))?;
    }
    report.notes.iter().try_for_each(|note| line(format_args!("       note: {}", printable(note))))
}
