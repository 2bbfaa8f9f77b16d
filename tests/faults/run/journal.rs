//! What happened in a run, and when: the faults, and what was found to be wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::support::Timeline;

/// Whom a fault keeps from accepting jobs; APIs by their place in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nobody: intake needs no broker and no workers.
    Nobody,
    /// One API, which need not answer at all.
    Process(usize),
    /// Every API: it may say that the database is away, but has to say so in time.
    Database,
    /// One API's way to the database, likewise.
    DatabaseOf(usize),
}

/// A fault that was made to happen.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub(crate) family: String,
    pub(crate) what: String,
    pub(crate) reach: Reach,
    pub(crate) began: Duration,
    /// When everything was as before: processes listen again, servers take connections.
    pub(crate) ended: Option<Duration>,
}

/// The journal of a run.
pub(crate) struct Journal {
    pub(crate) timeline: Timeline,
    windows: Mutex<Vec<Window>>,
    findings: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
    marks: Mutex<Vec<(Duration, &'static str)>>,
}

impl Journal {
    pub(crate) fn new(timeline: Timeline) -> Self {
        let (windows, findings, counts, marks) = Default::default();
        Self { timeline, windows, findings, counts, marks }
    }

    /// A fault begins. It lasts until the guard is dropped.
    pub(crate) fn begin(&self, family: &str, what: String, reach: Reach) -> Lasting<'_> {
        let mut windows = lock(&self.windows);
        let began = self.timeline.now();
        windows.push(Window { family: family.to_owned(), what, reach, began, ended: None });
        Lasting { journal: self, index: windows.len() - 1 }
    }

    /// Something is wrong.
    pub(crate) fn finding(&self, what: impl Into<String>) {
        let what = format!("{:.2} s: {}", self.timeline.now().as_secs_f64(), what.into());
        lock(&self.findings).push(what);
    }

    /// Something happened that the report counts.
    pub(crate) fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }

    /// The run has come so far.
    pub(crate) fn mark(&self, what: &'static str) {
        lock(&self.marks).push((self.timeline.now(), what));
    }

    /// How far it has come, and when.
    pub(crate) fn marks(&self) -> Vec<(Duration, &'static str)> {
        lock(&self.marks).clone()
    }

    /// The faults so far.
    pub(crate) fn windows(&self) -> Vec<Window> {
        lock(&self.windows).clone()
    }

    /// What is wrong so far.
    pub(crate) fn findings(&self) -> Vec<String> {
        lock(&self.findings).clone()
    }

    /// What was counted so far.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }
}

/// A fault that lasts.
pub(crate) struct Lasting<'a> {
    journal: &'a Journal,
    index: usize,
}

impl Drop for Lasting<'_> {
    fn drop(&mut self) {
        lock(&self.journal.windows)[self.index].ended = Some(self.journal.timeline.now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
