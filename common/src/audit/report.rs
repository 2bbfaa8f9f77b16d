//! What a check came to.

use serde::Serialize;

use crate::job::JobId;

/// The findings that a report lists; those beyond are counted.
pub const MOST_FINDINGS: usize = 1000;

/// What a check looked at, and what it found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The name of the check.
    pub check: &'static str,
    /// How many things it looked at.
    pub looked_at: u64,
    /// What they are.
    pub of: &'static str,
    /// What is wrong, the first [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub omitted: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The jobs concerned.
    pub jobs: Vec<JobId>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: &'static str,
}

impl Report {
    pub(super) fn new(check: &'static str, of: &'static str) -> Self {
        Self { check, looked_at: 0, of, findings: Vec::new(), omitted: 0, notes: Vec::new() }
    }

    pub(super) fn find(&mut self, jobs: impl Into<Vec<JobId>>, problem: impl Into<String>, advice: &'static str) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { jobs: jobs.into(), problem: problem.into(), advice });
        } else {
            self.omitted += 1;
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_findings_is_counted_and_not_kept() {
        let mut report = Report::new("rows", "jobs");
        for _ in 0..MOST_FINDINGS + 7 {
            report.find([JobId::new()], "it is wrong", "put it right");
        }
        assert_eq!((report.findings.len(), report.omitted, report.is_clean()), (MOST_FINDINGS, 7, false));
    }
}
