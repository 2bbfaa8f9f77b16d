//! What the lanes have delivered lately: it tells a message that was lost from one whose turn has not come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use offload_common::job::Lane;

use super::receipt::Unsettled;

// How far a row must be behind what its lane delivers now. Much more than messages overtake each other by, or the
// clocks of a database and a worker differ.
const MARGIN: Duration = Duration::from_secs(30);

/// When each lane last delivered, and what.
pub(crate) struct Arrivals {
    lanes: HashMap<Lane, Last>,
    // Deliveries that the broker lets a lane have unsettled.
    prefetch: usize,
    unsettled: HashMap<Lane, Unsettled>,
    idle_since: Instant,
}

struct Last {
    at: Instant,
    queued_at: DateTime<Utc>,
}

impl Arrivals {
    /// Nothing has arrived since `now`.
    pub(crate) fn new(prefetch: usize, now: Instant) -> Self {
        Self { lanes: HashMap::new(), prefetch, unsettled: HashMap::new(), idle_since: now }
    }

    /// What the unsettled deliveries of a lane are counted by.
    pub(crate) fn unsettled(&mut self, lane: &Lane) -> Unsettled {
        self.unsettled.entry(lane.clone()).or_default().clone()
    }

    /// A first-time delivery of a job that was queued at `queued_at`, by the store's clock.
    pub(crate) fn first_time(&mut self, lane: &Lane, queued_at: DateTime<Utc>, now: Instant) {
        self.lanes.insert(lane.clone(), Last { at: now, queued_at });
        self.idle_since = now;
    }

    /// Anything else that shows that the broker brings something.
    pub(crate) fn busy(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// How old a queued row must be for its message to have been lost. `None` while that cannot be told.
    ///
    /// A lane that brought nothing for `patience` has nothing at the broker: what is older than that was lost. A lane
    /// that delivers tells how long its messages wait; what is much older than its head was passed over. A queue that
    /// is merely long triggers nothing, because its own head is old.
    pub(crate) fn lost_after(&mut self, patience: Duration, now: Instant, wall: DateTime<Utc>) -> Option<Duration> {
        if self.unsettled.values().any(|unsettled| unsettled.count() >= self.prefetch) {
            // Silence proves nothing while the broker may not deliver. What was stolen takes nothing of that.
            self.idle_since = now;
        }
        if now.duration_since(self.idle_since) >= patience {
            return Some(patience);
        }
        let delivering = self.lanes.values().filter(|last| now.duration_since(last.at) < patience);
        let waits = delivering.map(|last| (wall - last.queued_at).to_std().unwrap_or_default());
        Some(waits.max()? + MARGIN.max(patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::clock;
    use offload_common::job::Priority;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn lane(priority: Priority) -> Lane {
        Lane { queue: "default".into(), priority }
    }

    #[test]
    fn silence_counts_only_once_it_has_lasted() {
        let (start, wall) = (clock::instant(), clock::now());
        let mut arrivals = Arrivals::new(1, start);
        let after = |arrivals: &mut Arrivals, seconds| {
            let passed = Duration::from_secs(seconds);
            arrivals.lost_after(PATIENCE, start + passed, wall + passed)
        };
        assert_eq!(after(&mut arrivals, 2), None);
        assert_eq!(after(&mut arrivals, 3), Some(PATIENCE));
        arrivals.busy(start + Duration::from_secs(4));
        assert_eq!(after(&mut arrivals, 6), None);
        assert_eq!(after(&mut arrivals, 7), Some(PATIENCE));
    }

    #[test]
    fn silence_proves_nothing_while_the_broker_may_not_deliver() {
        let (start, wall) = (clock::instant(), clock::now());
        let mut arrivals = Arrivals::new(1, start);
        let delivery = arrivals.unsettled(&lane(Priority::High));
        assert_eq!(arrivals.lost_after(PATIENCE, start + PATIENCE, wall), None);
        drop(delivery);
        assert_eq!(arrivals.lost_after(PATIENCE, start + PATIENCE * 2, wall), Some(PATIENCE));
    }

    #[test]
    fn a_lane_that_delivers_is_measured_by_its_own_head() {
        let (start, wall) = (clock::instant(), clock::now());
        let mut arrivals = Arrivals::new(1, start);
        arrivals.first_time(&lane(Priority::High), wall, start);
        assert_eq!(arrivals.lost_after(PATIENCE, start, wall), Some(MARGIN));
        let hour = Duration::from_secs(3600);
        arrivals.first_time(&lane(Priority::Low), wall - hour, start);
        assert_eq!(
            arrivals.lost_after(PATIENCE, start, wall),
            Some(hour + MARGIN),
            "its queue is long, nothing is lost"
        );
    }

    #[test]
    fn a_store_whose_clock_is_ahead_does_no_harm() {
        let (start, wall) = (clock::instant(), clock::now());
        let mut arrivals = Arrivals::new(1, start);
        arrivals.first_time(&lane(Priority::High), wall + Duration::from_secs(60), start);
        assert_eq!(arrivals.lost_after(PATIENCE, start, wall), Some(MARGIN));
    }
}
