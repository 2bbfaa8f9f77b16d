//! The watchdog: knows a worker that could work and does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offload_common::clock;

/// Watches over one worker. The heartbeat's thread feeds it, which goes on whatever the rest of the process does.
pub(crate) struct Watchdog {
    limit: Duration,
    seen: Mutex<Seen>,
}

struct Seen {
    // When it last started something, or had a reason not to.
    excused: Instant,
    stuck: bool,
}

impl Watchdog {
    /// One that bites after `limit`.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, seen: Mutex::new(Seen { excused: now, stuck: false }) }
    }

    /// How long a worker may let work wait.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// A run starts.
    pub(crate) fn started(&self) {
        self.excuse(clock::instant());
    }

    /// It has started something, or there is a reason why it does not.
    pub(crate) fn excuse(&self, now: Instant) {
        *self.lock() = Seen { excused: now, stuck: false };
    }

    /// Whether it has had room and started nothing for so long that it matters whether there is work.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.lock().excused) >= self.limit
    }

    /// Whether work waits for it, which it has started nothing of until `now`. Answers whether that is news, and bad.
    pub(crate) fn judge(&self, work_waits: bool, now: Instant) -> bool {
        let mut seen = self.lock();
        let stuck = work_waits && now.duration_since(seen.excused) >= self.limit;
        let known = std::mem::replace(&mut seen.stuck, stuck);
        stuck && !known
    }

    /// What is the matter, if something is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let seconds = self.limit.as_secs_f64();
        self.lock().stuck.then(|| {
            format!(
                "it has had free slots for {seconds} s and started nothing, although jobs that it could run have been \
                 queued for longer than that"
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn it_bites_once_work_waits_for_who_has_been_idle_for_the_limit() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let dog = Watchdog::new(LIMIT, start);
        assert!(!dog.is_idle(at(59)) && dog.is_idle(at(60)));
        assert!(!dog.judge(false, at(600)), "there is no work");
        assert!(dog.complaint().is_none());
        assert!(dog.judge(true, at(605)));
        assert!(!dog.judge(true, at(610)), "that is known");
        assert!(dog.complaint().is_some_and(|text| text.contains("60 s")));
    }

    #[test]
    fn whoever_starts_something_is_excused() {
        let start = clock::instant();
        let at = |seconds| start + Duration::from_secs(seconds);
        let dog = Watchdog::new(LIMIT, start);
        assert!(dog.judge(true, at(60)));
        dog.excuse(at(61));
        assert!(dog.complaint().is_none() && !dog.is_idle(at(120)));
        assert!(!dog.judge(true, at(120)), "what was asked before it started tells nothing");
        assert!(dog.judge(true, at(121)));
        assert!(!dog.judge(false, at(122)) && dog.complaint().is_none(), "others have taken it");
    }
}
