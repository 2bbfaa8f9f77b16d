//! Jobs that wait in one way, watched.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::reason::{Taker, World};
use crate::audit::watch::Watch;
use crate::job::{Epoch, JobId, State};
use crate::store::audit::Row;

/// A job at an epoch: it waits for as long as it has it.
type Waiting = (JobId, Epoch);

/// Jobs that have been late at every look, and what has moved meanwhile.
pub(super) struct Late {
    limit: Duration,
    lasts: Duration,
    watch: Watch<Waiting>,
    /// What could have gone on at the last look, and by whom.
    able: HashMap<Waiting, Vec<Taker>>,
    /// When something that had waited for a taker was last seen to have gone on.
    moved: HashMap<Taker, Instant>,
    rows: HashMap<JobId, Row>,
    at: Option<Instant>,
}

/// When a job came to be where it waits.
pub(super) fn since(row: &Row) -> DateTime<Utc> {
    if row.state == State::Queued { row.queued_at.unwrap_or(row.run_at) } else { row.run_at }
}

/// Whether a job has waited for longer than this.
pub(super) fn is_late(row: &Row, limit: Duration) -> bool {
    (row.read_at - since(row)).to_std().is_ok_and(|waited| waited > limit)
}

impl Late {
    /// Watches jobs that have waited for longer than `limit`, for as long as `lasts`.
    pub(super) fn new(limit: Duration, lasts: Duration) -> Self {
        Self {
            limit,
            lasts,
            watch: Watch::new(lasts),
            able: HashMap::new(),
            moved: HashMap::new(),
            rows: HashMap::new(),
            at: None,
        }
    }

    /// Takes note of everything that waits; answers whether that is worth another look.
    pub(super) fn look(&mut self, now: Instant, rows: &[Row], world: &World) -> bool {
        let waiting: HashMap<Waiting, &Row> = rows.iter().map(|row| ((row.id, row.epoch), row)).collect();
        for (_, takers) in self.able.drain().filter(|(one, _)| !waiting.contains_key(one)) {
            self.moved.extend(takers.into_iter().map(|taker| (taker, now)));
        }
        self.able = waiting.iter().filter_map(|(one, row)| Some((*one, world.takers(row).ok()?))).collect();
        let late = self.able.keys().filter(|one| is_late(waiting[*one], self.limit));
        let late: HashSet<Waiting> = late.copied().collect();
        if self.at.is_none() {
            self.rows = late.iter().map(|one| (one.0, waiting[one].clone())).collect();
        }
        self.at = Some(now);
        self.watch.look(now, late)
    }

    /// Waits until it is time for the next look.
    pub(super) async fn pause(&self) {
        self.watch.pause().await;
    }

    /// The jobs that were late at every look: those that are overdue, and the number of those that may be waiting for their
    /// turn, since what could take them was seen to take others.
    pub(super) fn into_overdue(self) -> (Vec<Row>, usize) {
        let Some(end) = self.at else { return (Vec::new(), 0) };
        let stood_still =
            |taker: &Taker| self.moved.get(taker).is_none_or(|at| end.duration_since(*at) > self.lasts / 2);
        let (mut overdue, mut in_turn) = (Vec::new(), 0);
        for one in self.watch.into_standing() {
            match self.rows.get(&one.0) {
                Some(row) if self.able.get(&one).is_some_and(|takers| takers.iter().any(stood_still)) => {
                    overdue.push(row.clone());
                }
                _ => in_turn += 1,
            }
        }
        overdue.sort_unstable_by_key(|row| (since(row), row.id));
        (overdue, in_turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::job::{Lane, Priority, WorkerId};
    use crate::store::audit::Member;

    /// A job that has been queued for this many seconds.
    fn queued(seconds: i64) -> Row {
        let read_at = clock::now();
        let since = read_at - chrono::TimeDelta::seconds(seconds);
        Row {
            id: JobId::new(),
            kind: "k".to_owned(),
            lane: Lane { queue: "default".to_owned(), priority: Priority::Normal },
            state: State::Queued,
            epoch: 1,
            attempt: 0,
            max_attempts: 5,
            losses: 0,
            cancel_requested: false,
            worker: None,
            nonce: None,
            created_at: since,
            run_at: since,
            queued_at: Some(since),
            started_at: None,
            finished_at: None,
            has_result: false,
            has_error: false,
            failures: Some(0),
            read_at,
        }
    }

    /// A fleet of one worker, which offers these kinds and holds so many jobs in two slots.
    fn world(kind: &str, running: u64) -> World {
        let member = Member {
            id: WorkerId(uuid::Uuid::nil()),
            gone: false,
            silent: Duration::ZERO,
            slots: 2,
            queues: vec!["default".to_owned()],
            kinds: vec![kind.to_owned()],
            running,
            suspects: 0,
        };
        World::new(vec![member], Vec::new(), Duration::from_secs(20), 10)
    }

    struct Scene {
        late: Late,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let late = Late::new(Duration::from_secs(60), Duration::from_secs(40));
            Self { late, start: clock::instant() }
        }

        fn look(&mut self, second: u64, rows: &[&Row], world: &World) -> bool {
            let rows: Vec<Row> = rows.iter().copied().cloned().collect();
            self.late.look(self.start + Duration::from_secs(second), &rows, world)
        }

        fn end(self) -> (Vec<JobId>, usize) {
            let (overdue, in_turn) = self.late.into_overdue();
            (overdue.into_iter().map(|row| row.id).collect(), in_turn)
        }
    }

    #[test]
    fn what_stands_while_nothing_moves_is_overdue() {
        let (mut scene, free) = (Scene::new(), world("k", 1));
        let (late, early, new) = (queued(61), queued(30), queued(3));
        assert!(scene.look(0, &[&late, &early], &free));
        assert!(scene.look(20, &[&late, &early, &new], &free), "more may come");
        assert!(!scene.look(40, &[&late, &early, &new], &free));
        assert_eq!(scene.end(), (vec![late.id], 0));
    }

    #[test]
    fn a_queue_that_moves_is_waited_for() {
        let (mut scene, free) = (Scene::new(), world("k", 0));
        let (first, second, third) = (queued(90), queued(80), queued(3));
        scene.look(0, &[&first, &second], &free);
        scene.look(20, &[&second, &third], &free);
        scene.look(39, &[&second], &free);
        scene.look(40, &[&second], &free);
        assert_eq!(scene.end(), (vec![], 1), "a slot that looks free may have been taken by what was not claimed");
    }

    #[test]
    fn what_moved_long_ago_excuses_nothing() {
        let (mut scene, free) = (Scene::new(), world("k", 0));
        let (first, second) = (queued(90), queued(80));
        scene.look(0, &[&first, &second], &free);
        for at in [5, 20, 40] {
            scene.look(at, &[&second], &free);
        }
        assert_eq!(scene.end(), (vec![second.id], 0));
    }

    #[test]
    fn a_reason_at_any_look_is_one() {
        let late = queued(61);
        for other in [world("k", 2), world("other", 0)] {
            let mut scene = Scene::new();
            scene.look(0, &[&late], &world("k", 0));
            assert!(!scene.look(20, &[&late], &other), "there is nothing left to watch");
            assert_eq!(scene.end(), (vec![], 0));
        }
    }

    #[test]
    fn another_epoch_is_another_wait() {
        let (mut scene, free) = (Scene::new(), world("k", 0));
        let late = queued(61);
        scene.look(0, &[&late], &free);
        let again = Row { epoch: 3, ..late };
        assert!(!scene.look(20, &[&again], &free));
        assert_eq!(scene.end(), (vec![], 0));
    }
}
