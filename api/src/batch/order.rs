//! What the jobs of a request run after: jobs that were accepted earlier, or others before them in the request.

use std::collections::{BTreeSet, HashSet};

use offload_common::job::JobId;

use crate::problem::FieldError;
use crate::submission::Submission;

/// Jobs of a request that may have a name, and parents that they may have in all: what a request takes of memory is bounded.
pub(crate) const MAX_NAMES: usize = 100_000;
pub(crate) const MAX_ALL_PARENTS: usize = 1_000_000;

/// What is held back at most, in jobs, parents and bytes, before it is asked for all of its parents at once.
const MOST_JOBS: usize = 1000;
const MOST_PARENTS: usize = 10_000;
const MOST_BYTES: usize = 1 << 20;

/// A job that is held back.
pub(super) struct Held {
    pub(super) submission: Submission,
    pub(super) line: Option<u64>,
    pub(super) base: String,
    /// How long it was.
    pub(super) bytes: usize,
}

/// Jobs are held back from the first on that has to do with others, so that all stay in their order.
#[derive(Default)]
pub(super) struct Ordering {
    held: Vec<Held>,
    bytes: usize,
    asked: usize,
    names: HashSet<String>,
    parents: usize,
}

impl Ordering {
    /// Whether this one is to be held back.
    pub(super) fn holds(&self, submission: &Submission) -> bool {
        !self.held.is_empty() || submission.order().is_any()
    }

    /// Holds one back; answers whether that is enough.
    pub(super) fn hold(&mut self, held: Held) -> bool {
        self.bytes += held.bytes;
        self.asked += held.submission.order().parents();
        self.held.push(held);
        self.held.len() >= MOST_JOBS || self.asked >= MOST_PARENTS || self.bytes >= MOST_BYTES
    }

    /// The jobs that those held back run after, and that were accepted earlier.
    pub(super) fn parents(&self) -> Vec<JobId> {
        let parents: BTreeSet<JobId> = self.held.iter().flat_map(|held| held.submission.order().jobs()).collect();
        parents.into_iter().collect()
    }

    /// All that are held back.
    pub(super) fn take(&mut self) -> Vec<Held> {
        (self.bytes, self.asked) = (0, 0);
        std::mem::take(&mut self.held)
    }

    /// What is wrong with a job's place among others, given which ids stand for none. If nothing is, it has that place.
    pub(super) fn check(&mut self, submission: &Submission, unknown: &HashSet<JobId>) -> Vec<FieldError> {
        let order = submission.order();
        let mut errors = order.check(|name| self.names.contains(name), |job| unknown.contains(&job));
        if order.name().is_some() && self.names.len() == MAX_NAMES {
            errors.push(FieldError::at("/ref", format!("up to {MAX_NAMES} jobs of a request go by a name")));
        }
        if self.parents + order.parents() > MAX_ALL_PARENTS {
            let detail = format!(
                "the jobs of a request run after up to {MAX_ALL_PARENTS} jobs in all, each counted as often as \
                                  it is named"
            );
            errors.push(FieldError::at("/after", detail));
        }
        if errors.is_empty() {
            self.names.extend(order.name().map(str::to_owned));
            self.parents += order.parents();
        }
        errors
    }
}
