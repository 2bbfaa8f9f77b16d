//! Who waits where and who holds what, without a lock or a clock: the state behind the in-process broker.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::broker::{Delivery, Event, Message, Tag};
use crate::job::Lane;

/// Names a consumer.
pub(super) type ConsumerId = u64;

/// The queues, and the consumers with what they hold.
#[derive(Default)]
pub(super) struct Lanes {
    /// By sequence number, so that what is given back goes to where it was.
    waiting: HashMap<Lane, BTreeMap<u64, Waiting>>,
    consumers: HashMap<ConsumerId, Member>,
    sequence: u64,
    generation: u64,
}

struct Waiting {
    message: Message,
    redelivered: bool,
}

struct Member {
    lanes: Vec<Lane>,
    prefetch: usize,
    generation: u64,
    held: BTreeMap<u64, Waiting>,
    news: VecDeque<Event>,
    /// Which lane to look into first, so that none starves.
    turn: usize,
    stopped: bool,
}

/// What a consumer finds.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Event(Event),
    Nothing,
    End,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Ack,
    Requeue,
}

impl Lanes {
    pub(super) fn publish(&mut self, message: Message) {
        self.sequence += 1;
        let waiting = Waiting { message, redelivered: false };
        self.waiting.entry(waiting.message.lane.clone()).or_default().insert(self.sequence, waiting);
    }

    pub(super) fn join(&mut self, lanes: &[Lane], prefetch: u16) -> ConsumerId {
        self.generation += 1;
        let member = Member {
            lanes: lanes.to_vec(),
            prefetch: usize::from(prefetch),
            generation: self.generation,
            held: BTreeMap::new(),
            news: VecDeque::from([Event::Connected]),
            turn: 0,
            stopped: false,
        };
        self.consumers.insert(self.generation, member);
        self.generation
    }

    pub(super) fn next(&mut self, id: ConsumerId) -> Next {
        let Some(member) = self.consumers.get_mut(&id) else { return Next::End };
        if let Some(event) = member.news.pop_front() {
            return Next::Event(event);
        }
        if member.stopped {
            return Next::End;
        }
        for offset in 0..member.lanes.len() {
            let lane = &member.lanes[(member.turn + offset) % member.lanes.len()];
            if member.held.values().filter(|held| held.message.lane == *lane).count() >= member.prefetch {
                continue;
            }
            let Some((number, taken)) = self.waiting.get_mut(lane).and_then(BTreeMap::pop_first) else { continue };
            let delivery = Delivery {
                lane: lane.clone(),
                pointers: taken.message.pointers.clone(),
                traceparent: taken.message.traceparent.clone(),
                redelivered: taken.redelivered,
                tag: Tag { generation: member.generation, number },
            };
            member.turn += offset + 1;
            member.held.insert(number, taken);
            return Next::Event(Event::Delivery(delivery));
        }
        Next::Nothing
    }

    pub(super) fn settle(&mut self, id: ConsumerId, tag: Tag, verdict: Verdict) {
        let Some(member) = self.consumers.get_mut(&id).filter(|member| member.generation == tag.generation) else {
            return;
        };
        let Some(held) = member.held.remove(&tag.number) else { return };
        match verdict {
            Verdict::Ack => {}
            Verdict::Requeue => Self::put_back(&mut self.waiting, tag.number, held),
        }
    }

    pub(super) fn stop(&mut self, id: ConsumerId) {
        if let Some(member) = self.consumers.get_mut(&id) {
            member.stopped = true;
        }
    }

    /// The consumer is gone; what it held goes to others.
    pub(super) fn leave(&mut self, id: ConsumerId) {
        for (number, held) in self.consumers.remove(&id).into_iter().flat_map(|member| member.held) {
            Self::put_back(&mut self.waiting, number, held);
        }
    }

    /// What the loss of a connection does to every consumer at once.
    #[cfg(feature = "testing")]
    pub(super) fn disconnect(&mut self) {
        for member in self.consumers.values_mut() {
            for (number, held) in std::mem::take(&mut member.held) {
                Self::put_back(&mut self.waiting, number, held);
            }
            self.generation += 1;
            member.generation = self.generation;
            member.news.extend([Event::Disconnected, Event::Connected]);
        }
    }

    fn put_back(waiting: &mut HashMap<Lane, BTreeMap<u64, Waiting>>, number: u64, held: Waiting) {
        let lane = held.message.lane.clone();
        waiting.entry(lane).or_default().insert(number, Waiting { redelivered: true, ..held });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobId, Priority};
    use crate::store::Pointer;

    fn message(priority: Priority, n: i64) -> Message {
        let pointer = Pointer { id: JobId::new(), epoch: n, queued_at: 0 };
        Message { lane: Lane { queue: "default".into(), priority }, pointers: vec![pointer], traceparent: None }
    }

    fn lanes() -> Vec<Lane> {
        Priority::ALL.map(|priority| Lane { queue: "default".into(), priority }).to_vec()
    }

    /// Takes one delivery, past the news: its number in the test, and its tag.
    fn take(lanes: &mut Lanes, id: ConsumerId) -> Option<(i64, Tag)> {
        loop {
            match lanes.next(id) {
                Next::Event(Event::Delivery(delivery)) => return Some((delivery.pointers[0].epoch, delivery.tag)),
                Next::Event(_) => {}
                Next::Nothing | Next::End => return None,
            }
        }
    }

    #[test]
    fn what_is_given_back_goes_to_where_it_was() {
        let mut state = Lanes::default();
        (1..=4).for_each(|n| state.publish(message(Priority::Normal, n)));
        let first = state.join(&lanes(), 3);
        let tags: Vec<Tag> = std::iter::from_fn(|| take(&mut state, first)).map(|(_, tag)| tag).collect();
        assert_eq!(tags.len(), 3, "the prefetch bounds what one consumer holds");
        state.settle(first, tags[1], Verdict::Requeue);
        state.settle(first, tags[0], Verdict::Ack);
        state.leave(first);
        let second = state.join(&lanes(), 10);
        let order: Vec<i64> = std::iter::from_fn(|| take(&mut state, second)).map(|(n, _)| n).collect();
        assert_eq!(order, [2, 3, 4]);
    }

    #[test]
    fn lanes_take_turns_and_each_has_its_own_prefetch() {
        let mut state = Lanes::default();
        for n in 0..3 {
            Priority::ALL.into_iter().zip(0..).for_each(|(priority, k)| state.publish(message(priority, 10 * k + n)));
        }
        let id = state.join(&lanes(), 2);
        let order: Vec<i64> = std::iter::from_fn(|| take(&mut state, id)).map(|(n, _)| n).collect();
        assert_eq!(order, [0, 10, 20, 1, 11, 21]);
    }

    #[test]
    fn a_tag_from_before_a_disconnect_settles_nothing() {
        let mut state = Lanes::default();
        state.publish(message(Priority::Normal, 1));
        let id = state.join(&lanes(), 1);
        let (_, old) = take(&mut state, id).expect("delivered");
        state.disconnect();
        let (_, new) = take(&mut state, id).expect("delivered again");
        assert_eq!(new.number, old.number);
        state.settle(id, old, Verdict::Ack);
        state.leave(id);
        let other = state.join(&lanes(), 1);
        assert!(take(&mut state, other).is_some(), "the old tag did not settle it");
    }
}
