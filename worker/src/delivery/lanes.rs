//! Which lane goes next: smooth weighted round robin over those that have something.

use std::collections::VecDeque;

use offload_common::job::Lane;

/// A buffer per lane. Within a lane the order of arrival holds; between lanes each gets starts in proportion to its
/// priority's weight, evenly spread, so that `low` is slow and never starved.
pub(crate) struct Lanes<T> {
    buffers: Vec<Buffer<T>>,
}

struct Buffer<T> {
    lane: Lane,
    items: VecDeque<T>,
    // What this lane has saved up: its weight is added in every round that it has something in, and the sum of all
    // weights taken off when it goes.
    credit: i64,
}

impl<T> Lanes<T> {
    /// No lanes yet: each is made when its first item arrives.
    pub(crate) const fn new() -> Self {
        Self { buffers: Vec::new() }
    }

    /// Whether there is nothing in any lane.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffers.iter().all(|buffer| buffer.items.is_empty())
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.buffers.iter().map(|buffer| buffer.items.len()).sum()
    }

    /// Appends to a lane.
    pub(crate) fn push(&mut self, lane: &Lane, item: T) {
        self.buffer(lane).items.push_back(item);
    }

    /// Puts back what was popped from a lane, to its head.
    pub(crate) fn put_back(&mut self, lane: &Lane, item: T) {
        self.buffer(lane).items.push_front(item);
    }

    /// Takes the next item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let mut total = 0;
        for buffer in self.buffers.iter_mut().filter(|buffer| !buffer.items.is_empty()) {
            let weight = i64::from(buffer.lane.priority.weight());
            buffer.credit += weight;
            total += weight;
        }
        // Of equals the first: the more urgent, since lanes are kept in that order.
        let waiting = self.buffers.iter_mut().filter(|buffer| !buffer.items.is_empty());
        let next = waiting.rev().max_by_key(|buffer| buffer.credit)?;
        next.credit -= total;
        let item = next.items.pop_front();
        if next.items.is_empty() {
            // What an empty lane saved up or owes is forgotten, so that nothing builds up while it is away.
            next.credit = 0;
        }
        item
    }

    /// Empties every lane.
    pub(crate) fn clear(&mut self) {
        self.buffers.clear();
    }

    fn buffer(&mut self, lane: &Lane) -> &mut Buffer<T> {
        let at = match self.buffers.iter().position(|buffer| buffer.lane == *lane) {
            Some(at) => at,
            None => {
                self.buffers.push(Buffer { lane: lane.clone(), items: VecDeque::new(), credit: 0 });
                self.buffers.sort_by_key(|buffer| buffer.lane.priority);
                self.buffers.iter().position(|buffer| buffer.lane == *lane).unwrap_or_default()
            }
        };
        &mut self.buffers[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::Priority::{self, High, Low, Normal};
    use proptest::prelude::*;

    fn lane(priority: Priority) -> Lane {
        Lane { queue: "default".into(), priority }
    }

    fn filled(counts: &[(Priority, usize)]) -> Lanes<(Priority, usize)> {
        let mut lanes = Lanes::new();
        for &(priority, count) in counts {
            (0..count).for_each(|n| lanes.push(&lane(priority), (priority, n)));
        }
        lanes
    }

    fn order(mut lanes: Lanes<(Priority, usize)>) -> Vec<Priority> {
        std::iter::from_fn(|| lanes.pop()).map(|(priority, _)| priority).collect()
    }

    #[test]
    fn starts_are_spread_by_weight() {
        let share = |counts: &[(Priority, usize)], first: usize| {
            let order = order(filled(counts));
            Priority::ALL.map(|priority| order[..first].iter().filter(|p| **p == priority).count())
        };
        assert_eq!(share(&[(High, 99), (Normal, 99), (Low, 99)], 21), [16, 4, 1]);
        assert_eq!(share(&[(Normal, 99), (Low, 99)], 10), [0, 8, 2]);
        assert_eq!(share(&[(High, 2), (Low, 3)], 5), [2, 0, 3]);
        assert_eq!(share(&[], 0), [0, 0, 0]);
    }

    #[test]
    fn the_most_urgent_goes_first_and_the_least_is_spread() {
        assert_eq!(order(filled(&[(Low, 1), (Normal, 1), (High, 1)])), [High, Normal, Low]);
        let low_at = order(filled(&[(Normal, 8), (Low, 2)])).iter().position(|p| *p == Low);
        assert_eq!(low_at, Some(2), "in the middle of its round, not at the end of all");
    }

    #[test]
    fn what_is_put_back_comes_next_in_its_lane() {
        let mut lanes = filled(&[(Normal, 2)]);
        let first = lanes.pop().unwrap();
        lanes.put_back(&lane(Normal), first);
        assert_eq!([lanes.pop(), lanes.pop(), lanes.pop()], [Some((Normal, 0)), Some((Normal, 1)), None]);
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_in_order_within_its_lane(high in 0usize..40, normal in 0usize..40, low in 0usize..40) {
            let mut lanes = filled(&[(High, high), (Normal, normal), (Low, low)]);
            let mut next = std::collections::HashMap::new();
            for (priority, n) in std::iter::from_fn(|| lanes.pop()) {
                let expected = next.entry(priority).or_insert(0);
                prop_assert_eq!(n, *expected);
                *expected += 1;
            }
            prop_assert_eq!(next.values().sum::<usize>(), high + normal + low);
            prop_assert!(lanes.is_empty());
        }
    }
}
