//! Receipts: what is owed to the broker for a delivery, tied to the life of the jobs it points at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use offload_common::broker::{Settle, Tag};

/// One pointer's share of a delivery. Once every receipt of a delivery is gone, the delivery is settled: acknowledged
/// if all of them were [`Receipt::done`], else given back. So a panic or an early return can cost a redelivery, never
/// a job.
#[must_use = "a receipt that is dropped gives its delivery back"]
pub(crate) struct Receipt(Arc<Parcel>);

struct Parcel {
    settle: Arc<dyn Settle>,
    tag: Tag,
    open: AtomicUsize,
    _unsettled: Unsettled,
}

/// Counts the unsettled deliveries of a lane: each holds a clone.
#[derive(Clone, Default)]
pub(crate) struct Unsettled(Arc<()>);

impl Unsettled {
    /// How many there are, given the one that is counted by.
    pub(crate) fn count(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl Receipt {
    /// One receipt for each of the `pointers` of a delivery. It counts as `unsettled` until then.
    pub(crate) fn split(
        settle: Arc<dyn Settle>,
        tag: Tag,
        pointers: usize,
        unsettled: Unsettled,
    ) -> impl Iterator<Item = Receipt> {
        let parcel = Arc::new(Parcel { settle, tag, open: AtomicUsize::new(pointers), _unsettled: unsettled });
        std::iter::repeat_n(parcel, pointers).map(Receipt)
    }

    /// The database shows that this pointer is no longer needed.
    pub(crate) fn done(self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if *self.open.get_mut() == 0 {
            self.settle.ack(self.tag);
        } else {
            self.settle.requeue(self.tag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Log(Mutex<Vec<&'static str>>);

    impl Settle for Log {
        fn ack(&self, _: Tag) {
            self.0.lock().unwrap().push("ack");
        }

        fn requeue(&self, _: Tag) {
            self.0.lock().unwrap().push("requeue");
        }
    }

    const TAG: Tag = Tag { generation: 1, number: 1 };

    #[test]
    fn a_delivery_is_acknowledged_once_its_last_pointer_is_done() {
        let log = Arc::new(Log::default());
        let mut receipts: Vec<_> = Receipt::split(log.clone(), TAG, 3, Unsettled::default()).collect();
        receipts.pop().unwrap().done();
        receipts.pop().unwrap().done();
        assert!(log.0.lock().unwrap().is_empty());
        receipts.pop().unwrap().done();
        assert_eq!(*log.0.lock().unwrap(), ["ack"]);
    }

    #[test]
    fn one_pointer_that_is_given_back_gives_its_delivery_back() {
        let log = Arc::new(Log::default());
        let unsettled = Unsettled::default();
        let mut receipts: Vec<_> = Receipt::split(log.clone(), TAG, 2, unsettled.clone()).collect();
        drop(receipts.pop());
        assert!(log.0.lock().unwrap().is_empty());
        assert_eq!(unsettled.count(), 1);
        receipts.pop().unwrap().done();
        assert_eq!(unsettled.count(), 0);
        assert_eq!(*log.0.lock().unwrap(), ["requeue"]);
    }

    #[test]
    fn an_empty_parcel_is_acknowledged() {
        let log = Arc::new(Log::default());
        assert_eq!(Receipt::split(log.clone(), TAG, 0, Unsettled::default()).count(), 0);
        assert_eq!(*log.0.lock().unwrap(), ["ack"]);
    }
}
