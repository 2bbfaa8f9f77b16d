//! Claims on their way: rows that may say they run here before their runs are entered.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The claims and steals that are under way, in the order of their beginning.
#[derive(Default)]
pub(crate) struct Takings {
    numbers: Mutex<Numbers>,
}

#[derive(Default)]
struct Numbers {
    next: u64,
    open: BTreeSet<u64>,
}

/// One that is under way, until its runs are entered or it has failed.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Taking<'a> {
    takings: &'a Takings,
    number: u64,
}

impl Takings {
    /// One begins.
    pub(crate) fn begin(&self) -> Taking<'_> {
        let mut numbers = self.lock();
        let number = numbers.next;
        numbers.next += 1;
        numbers.open.insert(number);
        Taking { takings: self, number }
    }

    /// The number that the next one will have.
    pub(crate) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Whether all those before this number have ended.
    pub(crate) fn ended_before(&self, number: u64) -> bool {
        self.lock().open.first().is_none_or(|first| *first >= number)
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        // Nothing here panics half-way through a change.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.takings.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_at_some_moment_is_told_from_what_began_later() {
        let takings = Takings::default();
        let early = takings.begin();
        let moment = takings.next();
        let late = takings.begin();
        assert!(!takings.ended_before(moment));
        drop(early);
        assert!(takings.ended_before(moment), "the late one does not count");
        assert!(!takings.ended_before(takings.next()));
        drop(late);
        assert!(takings.ended_before(takings.next()));
    }
}
