//! The valve at intake: whether a job that is due now is queued at once, or left to promotion because its lane is
//! full or has a backlog.
//!
//! The answer is an estimate: the depths that the store gave last, and what this process let in since. It is read
//! while jobs come in, at most twice a second, so an idle server asks nothing. A lane of unknown depth is open: a slow
//! count must not slow intake, and the worst that follows is a broker that holds more than its window.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use offload_common::clock;
use offload_common::job::Lane;
use offload_common::store::{LaneDepth, Store};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The pause between two readings.
const PAUSE: Duration = Duration::from_millis(500);

/// A reading that is older says nothing any more.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// Decides whether lanes have room.
pub(crate) struct Valve {
    window: u64,
    estimate: Mutex<Estimate>,
    used: Notify,
}

#[derive(Default)]
struct Estimate {
    read_at: Option<Instant>,
    depths: HashMap<Lane, LaneDepth>,
    admitted_since: HashMap<Lane, u64>,
}

impl Valve {
    /// A valve that lets each lane hold `window` queued jobs, and the task that keeps it informed until `stop`.
    pub(crate) fn spawn(store: Arc<dyn Store>, window: u32, stop: CancellationToken) -> Arc<Self> {
        let valve = Arc::new(Self { window: window.into(), estimate: Mutex::default(), used: Notify::new() });
        let task = valve.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                task.used.notified().await;
                task.refresh(&*store).await;
                sleep(PAUSE).await;
            }
        }));
        valve
    }

    /// Whether a job may be queued at once; counts it if so.
    pub(crate) fn admit(&self, lane: &Lane) -> bool {
        let admitted = self.with(|estimate| estimate.admit(lane, self.window, clock::instant()));
        self.used.notify_one();
        admitted
    }

    async fn refresh(&self, store: &dyn Store) {
        let counted = self.with(|estimate| estimate.admitted_since.clone());
        let window = u32::try_from(self.window).unwrap_or(u32::MAX);
        if let Ok(Ok(depths)) = timeout(FRESH_FOR, store.depths(window)).await {
            self.with(|estimate| estimate.update(depths, &counted, clock::instant()));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Estimate) -> T) -> T {
        act(&mut self.estimate.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Estimate {
    fn admit(&mut self, lane: &Lane, window: u64, now: Instant) -> bool {
        let known = self.read_at.is_some_and(|at| now.duration_since(at) < FRESH_FOR);
        let depth = self.depths.get(lane);
        let since = self.admitted_since.get(lane).copied().unwrap_or(0);
        let full = depth.map_or(0, |depth| depth.queued) + since >= window;
        let open = !known || !(full || depth.is_some_and(|depth| depth.backlog));
        if open {
            *self.admitted_since.entry(lane.clone()).or_default() += 1;
        }
        open
    }

    /// Takes a reading over. `counted` is what had been admitted when it began, and so is part of it; what was admitted
    /// while it ran is counted on top.
    fn update(&mut self, depths: Vec<LaneDepth>, counted: &HashMap<Lane, u64>, now: Instant) {
        self.depths = depths.into_iter().map(|depth| (depth.lane.clone(), depth)).collect();
        self.admitted_since.retain(|lane, since| {
            *since -= counted.get(lane).copied().unwrap_or(0).min(*since);
            *since > 0
        });
        self.read_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::Priority;

    fn lane(queue: &str) -> Lane {
        Lane { queue: queue.to_owned(), priority: Priority::Normal }
    }

    fn depth(queued: u64, backlog: bool) -> Vec<LaneDepth> {
        vec![LaneDepth { lane: lane("a"), queued, backlog }]
    }

    #[test]
    fn a_lane_is_open_up_to_its_window_and_while_it_has_no_backlog() {
        let (mut estimate, now) = (Estimate::default(), clock::instant());
        estimate.update(depth(8, false), &HashMap::new(), now);
        let admitted: Vec<bool> = (0..3).map(|_| estimate.admit(&lane("a"), 10, now)).collect();
        assert_eq!(admitted, [true, true, false]);
        assert!(estimate.admit(&lane("b"), 10, now), "a lane that is not mentioned is empty");
        estimate.update(depth(0, true), &HashMap::new(), now);
        assert!(!estimate.admit(&lane("a"), 10, now));
    }

    #[test]
    fn what_was_never_read_or_long_ago_is_open() {
        let (mut estimate, now) = (Estimate::default(), clock::instant());
        assert!(estimate.admit(&lane("a"), 0, now));
        estimate.update(depth(10, true), &HashMap::new(), now);
        assert!(!estimate.admit(&lane("a"), 10, now));
        assert!(estimate.admit(&lane("a"), 10, now + FRESH_FOR));
    }

    #[test]
    fn jobs_admitted_while_a_reading_runs_count_on_top_of_it() {
        let (mut estimate, now) = (Estimate::default(), clock::instant());
        estimate.admit(&lane("a"), 10, now);
        let counted = estimate.admitted_since.clone();
        estimate.admit(&lane("a"), 10, now);
        estimate.update(depth(8, false), &counted, now);
        assert!(estimate.admit(&lane("a"), 10, now));
        assert!(!estimate.admit(&lane("a"), 10, now));
    }
}
