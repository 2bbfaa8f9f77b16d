//! What has been delivered and has not started.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offload_common::clock;
use offload_common::job::Lane;
use offload_common::store::Pointer;
use tokio::sync::Notify;

use super::arrivals::Arrivals;
use super::lanes::Lanes;
use super::receipt::{Receipt, Unsettled};

// A message that waited this long in the process is stale: another worker may have stolen its job meanwhile.
const FRESH: Duration = Duration::from_secs(1);

/// A delivered pointer on its way to a start. Dropped, it is given back.
pub(crate) struct Ticket {
    /// The lane that it came on.
    pub(crate) lane: Lane,
    /// What it points at.
    pub(crate) pointer: Pointer,
    /// Whether it was delivered before, to anybody.
    pub(crate) redelivered: bool,
    /// When it arrived in this process.
    pub(crate) arrived: Instant,
    /// What is owed for it.
    pub(crate) receipt: Receipt,
}

impl Ticket {
    /// Whether somebody else may have taken the job meanwhile.
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        self.redelivered || now.duration_since(self.arrived) > FRESH
    }
}

/// Tickets that wait for a slot, by lane; and, apart, *suspects*: jobs that may be what kills workers. One of those runs at a
/// time, and those behind it hold up nobody else.
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    most_parked: usize,
}

struct Waiting {
    lanes: Lanes<Ticket>,
    parked: VecDeque<Ticket>,
    arrivals: Arrivals,
}

impl Inbox {
    /// An empty one, for lanes that have at most `prefetch` deliveries unsettled. It parks at most half as many suspects.
    pub(crate) fn new(prefetch: usize, now: Instant) -> Self {
        let most_parked = prefetch.div_ceil(2);
        let waiting = Waiting { lanes: Lanes::new(), parked: VecDeque::new(), arrivals: Arrivals::new(prefetch, now) };
        Self { waiting: Mutex::new(waiting), arrived: Notify::new(), most_parked }
    }

    /// A ticket arrives.
    pub(crate) fn receive(&self, ticket: Ticket) {
        let mut waiting = self.lock();
        match chrono::DateTime::from_timestamp_micros(ticket.pointer.queued_at) {
            Some(queued_at) if !ticket.redelivered => {
                waiting.arrivals.first_time(&ticket.lane, queued_at, ticket.arrived);
            }
            _ => waiting.arrivals.busy(ticket.arrived),
        }
        waiting.lanes.push(&ticket.lane.clone(), ticket);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits until something is there.
    pub(crate) async fn ready(&self) {
        while self.lock().lanes.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// The next ticket, by lane weight and order of arrival.
    pub(crate) fn take(&self) -> Option<Ticket> {
        self.lock().lanes.pop()
    }

    /// Puts back what could not be started now.
    pub(crate) fn put_back(&self, tickets: Vec<Ticket>) {
        let mut waiting = self.lock();
        for ticket in tickets.into_iter().rev() {
            waiting.lanes.put_back(&ticket.lane.clone(), ticket);
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Sets a suspect aside until no other runs.
    ///
    /// # Errors
    /// The ticket itself where there is no more room.
    pub(crate) fn park(&self, ticket: Ticket) -> Result<(), Ticket> {
        let mut waiting = self.lock();
        if waiting.parked.len() >= self.most_parked {
            return Err(ticket);
        }
        waiting.parked.push_back(ticket);
        Ok(())
    }

    /// Whether suspects are set aside.
    pub(crate) fn has_parked(&self) -> bool {
        !self.lock().parked.is_empty()
    }

    /// The suspect that was set aside first.
    pub(crate) fn unpark(&self) -> Option<Ticket> {
        self.lock().parked.pop_front()
    }

    /// How many tickets wait, the parked ones included.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.lock();
        waiting.lanes.len() + waiting.parked.len()
    }

    /// Forgets everything: it will be delivered again, or is given back.
    pub(crate) fn clear(&self) {
        let mut waiting = self.lock();
        waiting.lanes.clear();
        waiting.parked.clear();
    }

    /// What the unsettled deliveries of a lane are counted by.
    pub(crate) fn unsettled(&self, lane: &Lane) -> Unsettled {
        self.lock().arrivals.unsettled(lane)
    }

    /// How old a queued row must be for its message to have been lost, as [`Arrivals::lost_after`]. `None` also while
    /// something waits here.
    pub(crate) fn lost_after(&self, patience: Duration) -> Option<Duration> {
        let now = clock::instant();
        let mut waiting = self.lock();
        if !waiting.lanes.is_empty() {
            waiting.arrivals.busy(now);
            return None;
        }
        waiting.arrivals.lost_after(patience, now, clock::now())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing here panics half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::broker::{Settle, Tag};
    use offload_common::job::{JobId, Priority};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    /// Tells which deliveries were given back.
    struct Returned(mpsc::UnboundedSender<u64>);

    impl Settle for Returned {
        fn ack(&self, tag: Tag) {
            panic!("{tag:?} was not done");
        }

        fn requeue(&self, tag: Tag) {
            // The test may be over.
            let _ = self.0.send(tag.number);
        }
    }

    fn ticket(inbox: &Inbox, settle: &Arc<Returned>, number: u64) -> Ticket {
        let lane = Lane { queue: "default".into(), priority: Priority::Normal };
        let tag = Tag { generation: 1, number };
        let receipt = Receipt::split(settle.clone(), tag, 1, inbox.unsettled(&lane)).next().expect("one");
        let pointer = Pointer { id: JobId::new(), epoch: number as i64, queued_at: 0 };
        Ticket { lane, pointer, redelivered: false, arrived: clock::instant(), receipt }
    }

    fn inbox() -> (Inbox, Arc<Returned>, mpsc::UnboundedReceiver<u64>) {
        let (tell, returned) = mpsc::unbounded_channel();
        (Inbox::new(4, clock::instant()), Arc::new(Returned(tell)), returned)
    }

    #[tokio::test]
    async fn an_arrival_wakes_whoever_waits_and_order_holds() {
        let (inbox, settle, _returned) = inbox();
        let arrive = async {
            inbox.receive(ticket(&inbox, &settle, 1));
            inbox.receive(ticket(&inbox, &settle, 2));
        };
        tokio::join!(inbox.ready(), arrive);
        let first = inbox.take().expect("there");
        assert_eq!((first.pointer.epoch, inbox.len()), (1, 1));
        inbox.put_back(vec![first]);
        let order: Vec<_> = std::iter::from_fn(|| inbox.take()).map(|ticket| ticket.pointer.epoch).collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn suspects_are_parked_in_order_and_only_so_many() {
        let (inbox, settle, _returned) = inbox();
        for number in 1..=2 {
            assert!(inbox.park(ticket(&inbox, &settle, number)).is_ok());
        }
        assert!(inbox.park(ticket(&inbox, &settle, 3)).is_err(), "half of the prefetch");
        assert!(inbox.has_parked() && inbox.take().is_none());
        assert_eq!(inbox.unpark().map(|ticket| ticket.pointer.epoch), Some(1));
    }

    #[test]
    fn clearing_gives_everything_back() {
        let (inbox, settle, mut returned) = inbox();
        inbox.receive(ticket(&inbox, &settle, 1));
        assert!(inbox.park(ticket(&inbox, &settle, 2)).is_ok());
        inbox.clear();
        assert_eq!((inbox.len(), returned.try_recv(), returned.try_recv()), (0, Ok(1), Ok(2)));
    }

    #[test]
    fn nothing_is_taken_for_lost_while_something_waits_here() {
        let (inbox, settle, _returned) = inbox();
        assert_eq!(inbox.lost_after(Duration::ZERO), Some(Duration::ZERO));
        inbox.receive(ticket(&inbox, &settle, 1));
        assert_eq!(inbox.lost_after(Duration::ZERO), None);
    }
}
