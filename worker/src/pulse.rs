//! How a membership is doing, from its beats: pure bookkeeping.

use std::time::{Duration, Instant};

/// The beats of one membership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    period: Duration,
    lease: Duration,
    last: Instant,
    next: Instant,
    steady_since: Option<Instant>,
}

impl Pulse {
    /// A membership that began at `now`, which counts as its first beat.
    pub(crate) fn new(period: Duration, lease: Duration, now: Instant) -> Self {
        Self { period, lease, last: now, next: now + period, steady_since: Some(now) }
    }

    /// When to beat next.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// Since when every beat succeeded in time; `None` while the last one did not.
    pub(crate) const fn steady_since(&self) -> Option<Instant> {
        self.steady_since
    }

    /// A beat that began at `began` succeeded.
    pub(crate) fn succeeded(&mut self, began: Instant) {
        // After a suspension, say: others were as silent as this worker.
        if self.is_out_of_touch(began) {
            self.steady_since = None;
        }
        self.last = began;
        self.next = began + self.period;
        self.steady_since = self.steady_since.or(Some(began));
    }

    /// A beat is wanted at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// A beat failed by `now`: the next one comes soon.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.steady_since = None;
        self.next = now + self.period.min(Duration::from_secs(1));
    }

    /// How long a beat may take before it counts as failed.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let left = self.out_of_touch_at().saturating_duration_since(now);
        if left.is_zero() { self.period } else { left.min(self.period) }
    }

    /// Whether the last success is so long ago that others may soon take this worker for dead: two thirds of the lease.
    pub(crate) fn is_out_of_touch(&self, now: Instant) -> bool {
        now >= self.out_of_touch_at()
    }

    fn out_of_touch_at(&self) -> Instant {
        self.last + self.lease * 2 / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::clock;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_steps_back_at_two_thirds_of_the_lease_and_comes_back_with_a_beat() {
        let start = clock::instant();
        let mut pulse = Pulse::new(s(5), s(21), start);
        assert_eq!(pulse.next(), start + s(5));
        pulse.failed(start + s(6));
        assert_eq!((pulse.next(), pulse.steady_since()), (start + s(7), None));
        assert!(!pulse.is_out_of_touch(start + s(13)));
        assert_eq!(pulse.patience(start + s(13)), s(1), "it is known by then");
        assert!(pulse.is_out_of_touch(start + s(14)));
        assert_eq!(pulse.patience(start + s(15)), s(5));
        pulse.succeeded(start + s(16));
        assert!(!pulse.is_out_of_touch(start + s(29)));
        assert_eq!((pulse.next(), pulse.steady_since()), (start + s(21), Some(start + s(16))));
    }

    #[test]
    fn beats_that_are_too_far_apart_are_not_steady() {
        let start = clock::instant();
        let mut pulse = Pulse::new(s(5), s(21), start);
        pulse.succeeded(start + s(13));
        assert_eq!(pulse.steady_since(), Some(start));
        pulse.succeeded(start + s(60));
        assert_eq!(pulse.steady_since(), Some(start + s(60)), "the process was suspended");
    }

    #[test]
    fn a_beat_that_is_wanted_is_due() {
        let start = clock::instant();
        let mut pulse = Pulse::new(s(5), s(21), start);
        pulse.hurry(start + s(1));
        assert_eq!((pulse.next(), pulse.steady_since()), (start + s(1), Some(start)));
    }

    #[test]
    fn a_beat_counts_from_when_it_began() {
        let start = clock::instant();
        let mut pulse = Pulse::new(s(5), s(21), start);
        pulse.succeeded(start + s(5));
        assert_eq!((pulse.next(), pulse.steady_since()), (start + s(10), Some(start)));
    }
}
