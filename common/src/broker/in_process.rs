//! Within one process: for `offload dev`, and for tests. Its messages live as long as the process does, which is enough:
//! the rows say what is still to be done, and stealing finds it after a restart.

mod lanes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast};

use self::lanes::{ConsumerId, Lanes, Next, Verdict};
use super::{Broker, Consumer, Error, Event, Health, Message, Settle, Signal, Signals, Tag, Topic};
use crate::job::Lane;

/// Signals that a slow listener may fall behind before it misses the oldest.
const SIGNAL_BACKLOG: usize = 1024;

/// The broker of a process that is alone.
#[derive(Clone, Default)]
pub struct InProcessBroker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    lanes: Lanes,
    topics: HashMap<Topic, broadcast::Sender<Signal>>,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic half-way runs under this lock, so a poisoned one is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }
}

impl InProcessBroker {
    /// An empty broker.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does to every consumer what the loss of its connection would: what it holds goes back, and it connects again.
    #[cfg(feature = "testing")]
    pub fn drop_connections(&self) {
        self.shared.change(|state| state.lanes.disconnect());
    }
}

#[async_trait]
impl Broker for InProcessBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), Error>> {
        let count = messages.len();
        let mut outcome = Ok(());
        self.shared.change(|state| {
            if state.closed {
                outcome = Err(Error::Unavailable("it is closed".into()));
            } else {
                messages.into_iter().for_each(|message| state.lanes.publish(message));
            }
        });
        vec![outcome; count]
    }

    async fn consume(&self, lanes: &[Lane], prefetch: u16) -> Box<dyn Consumer> {
        let id = self.shared.lock().lanes.join(lanes, prefetch);
        Box::new(InProcessConsumer { id, shared: self.shared.clone() })
    }

    async fn signal(&self, signal: Signal) {
        if let Some(topic) = self.shared.lock().topics.get(&signal.topic()) {
            // An error means that nobody listens.
            let _ = topic.send(signal);
        }
    }

    async fn listen(&self, topic: Topic) -> Box<dyn Signals> {
        let mut state = self.shared.lock();
        let sender = || broadcast::channel(SIGNAL_BACKLOG).0;
        // A broker that is closed keeps no sender, so its listeners come to an end.
        let receiver = if state.closed {
            sender().subscribe()
        } else {
            state.topics.entry(topic).or_insert_with(sender).subscribe()
        };
        Box::new(InProcessSignals(receiver))
    }

    fn health(&self) -> Health {
        if self.shared.lock().closed { Health::Down("it is closed".into()) } else { Health::Up }
    }

    async fn close(&self, _patience: Duration) {
        self.shared.change(|state| {
            state.closed = true;
            state.topics.clear();
        });
    }
}

struct InProcessConsumer {
    id: ConsumerId,
    shared: Arc<Shared>,
}

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // From here on no change is missed, so looking first and waiting then leaves no gap.
            changed.as_mut().enable();
            let next = {
                let mut state = self.shared.lock();
                if state.closed { Next::End } else { state.lanes.next(self.id) }
            };
            match next {
                Next::Event(event) => return Some(event),
                Next::End => return None,
                Next::Nothing => changed.await,
            }
        }
    }

    fn settle(&self) -> Arc<dyn Settle> {
        Arc::new(InProcessSettle { id: self.id, shared: self.shared.clone() })
    }

    async fn stop(&mut self) {
        self.shared.change(|state| state.lanes.stop(self.id));
    }

    async fn close(self: Box<Self>) {
        // Dropping it is all there is to do: settling took effect at once.
    }
}

impl Drop for InProcessConsumer {
    fn drop(&mut self) {
        self.shared.change(|state| state.lanes.leave(self.id));
    }
}

struct InProcessSettle {
    id: ConsumerId,
    shared: Arc<Shared>,
}

impl Settle for InProcessSettle {
    fn ack(&self, tag: Tag) {
        self.shared.change(|state| state.lanes.settle(self.id, tag, Verdict::Ack));
    }

    fn requeue(&self, tag: Tag) {
        self.shared.change(|state| state.lanes.settle(self.id, tag, Verdict::Requeue));
    }
}

struct InProcessSignals(broadcast::Receiver<Signal>);

#[async_trait]
impl Signals for InProcessSignals {
    async fn next(&mut self) -> Option<Signal> {
        loop {
            match self.0.recv().await {
                Ok(signal) => return Some(signal),
                Err(broadcast::error::RecvError::Lagged(missed)) => tracing::debug!(missed, "a slow listener"),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
