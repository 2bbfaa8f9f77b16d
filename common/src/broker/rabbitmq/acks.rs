//! Which acknowledgements to send: as few as possible, and none twice.
//!
//! Delivery tags on a channel count from 1 without a gap. Everything up to the first unsettled one can be acknowledged
//! with a single frame; what is settled beyond it goes singly, so that one slow job holds nobody's place.

use std::collections::BTreeSet;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Acknowledges everything up to this tag.
    AckUpTo(u64),
    /// Acknowledges this one.
    Ack(u64),
    /// Gives this one back.
    Requeue(u64),
}

/// What is settled on one channel.
pub(super) struct Acks {
    /// The lowest tag that is not settled.
    first_open: u64,
    /// Settled tags beyond it.
    settled: BTreeSet<u64>,
    /// Acknowledged, but not sent.
    pending: BTreeSet<u64>,
}

impl Acks {
    pub(super) const fn new() -> Self {
        Self { first_open: 1, settled: BTreeSet::new(), pending: BTreeSet::new() }
    }

    /// Notes an acknowledgement, to send later. A tag that is settled already is ignored: the broker would close the
    /// channel over it.
    pub(super) fn ack(&mut self, tag: u64) {
        if self.settle(tag) {
            self.pending.insert(tag);
        }
    }

    /// Gives a delivery back. Sent at once, before any acknowledgement that would cover its tag.
    pub(super) fn requeue(&mut self, tag: u64) -> Option<Frame> {
        self.settle(tag).then_some(Frame::Requeue(tag))
    }

    /// How many acknowledgements wait to be sent.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes the acknowledgements below the first open tag: at most one frame.
    pub(super) fn take_contiguous(&mut self) -> Option<Frame> {
        let beyond = self.pending.split_off(&self.first_open);
        let covered = std::mem::replace(&mut self.pending, beyond);
        let last = *covered.last()?;
        Some(if covered.len() == 1 { Frame::Ack(last) } else { Frame::AckUpTo(last) })
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> Vec<Frame> {
        let mut frames = Vec::from_iter(self.take_contiguous());
        frames.extend(std::mem::take(&mut self.pending).into_iter().map(Frame::Ack));
        frames
    }

    fn settle(&mut self, tag: u64) -> bool {
        let fresh = tag >= self.first_open && self.settled.insert(tag);
        while self.settled.remove(&self.first_open) {
            self.first_open += 1;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    #[test]
    fn a_slow_job_keeps_the_rest_from_being_grouped_but_not_from_being_sent() {
        let mut acks = Acks::new();
        [1, 2, 3, 5, 6].into_iter().for_each(|tag| acks.ack(tag));
        assert_eq!(acks.take_contiguous(), Some(Frame::AckUpTo(3)));
        assert_eq!(acks.take_contiguous(), None);
        assert_eq!(acks.take_all(), [Frame::Ack(5), Frame::Ack(6)]);
        acks.ack(7);
        acks.ack(4);
        // 5 and 6 were sent before: 7 stands for 4 and itself.
        assert_eq!(acks.take_all(), [Frame::AckUpTo(7)]);
    }

    #[test]
    fn a_requeued_delivery_is_no_gap() {
        let mut acks = Acks::new();
        acks.ack(1);
        assert_eq!(acks.requeue(2), Some(Frame::Requeue(2)));
        assert_eq!(acks.requeue(2), None);
        acks.ack(2);
        acks.ack(3);
        assert_eq!(acks.take_all(), [Frame::AckUpTo(3)]);
    }

    /// The broker's side, as strict as the real one: a frame must name an outstanding delivery.
    #[derive(Default)]
    struct Channel {
        outstanding: BTreeSet<u64>,
        acked: BTreeSet<u64>,
        requeued: BTreeSet<u64>,
    }

    impl Channel {
        fn receive(&mut self, frame: Frame) {
            let (Frame::AckUpTo(tag) | Frame::Ack(tag) | Frame::Requeue(tag)) = frame;
            assert!(self.outstanding.remove(&tag), "{frame:?} names no outstanding delivery");
            match frame {
                Frame::Requeue(_) => self.requeued.insert(tag),
                Frame::Ack(_) => self.acked.insert(tag),
                Frame::AckUpTo(_) => {
                    let beyond = self.outstanding.split_off(&tag);
                    self.acked.append(&mut self.outstanding);
                    self.outstanding = beyond;
                    self.acked.insert(tag)
                }
            };
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ack(Index),
        Requeue(Index),
        Contiguous,
        All,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any::<Index>().prop_map(Step::Ack),
            2 => any::<Index>().prop_map(Step::Requeue),
            2 => Just(Step::Contiguous),
            1 => Just(Step::All),
        ]
    }

    proptest! {
        /// Whatever is settled in whatever order, the broker ends up with exactly what was said first of each delivery.
        #[test]
        fn the_broker_hears_exactly_what_was_said(count in 1u64..60, steps in prop::collection::vec(step(), 0..200)) {
            let mut acks = Acks::new();
            let mut channel = Channel { outstanding: (1..=count).collect(), ..Channel::default() };
            let (mut acked, mut requeued) = (BTreeSet::new(), BTreeSet::new());
            let tag = |index: Index| index.index(usize::try_from(count).expect("small")) as u64 + 1;
            for step in steps {
                match step {
                    Step::Ack(index) => {
                        let tag = tag(index);
                        acks.ack(tag);
                        if !requeued.contains(&tag) {
                            acked.insert(tag);
                        }
                    }
                    Step::Requeue(index) => {
                        let tag = tag(index);
                        acks.requeue(tag).into_iter().for_each(|frame| channel.receive(frame));
                        if !acked.contains(&tag) {
                            requeued.insert(tag);
                        }
                    }
                    Step::Contiguous => acks.take_contiguous().into_iter().for_each(|frame| channel.receive(frame)),
                    Step::All => acks.take_all().into_iter().for_each(|frame| channel.receive(frame)),
                }
            }
            acks.take_all().into_iter().for_each(|frame| channel.receive(frame));
            prop_assert_eq!(acks.pending(), 0);
            prop_assert_eq!(channel.acked, acked);
            prop_assert_eq!(channel.requeued, requeued);
        }
    }
}
