//! Publishing after the commit. The row is the truth and stealing finds it, so nobody waits for a publish and none is
//! ever tried twice: what the broker does not take is counted and forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::broker::{Broker, Error, Message};
use crate::store::Dispatch;
use crate::{failpoint, panics};

/// Dispatches that wait for the broker at most; beyond, new ones are dropped.
const BACKLOG: usize = 100_000;
/// Dispatches per round: what has come up while one round is being confirmed makes up the next.
const ROUND: usize = 1_000;

/// Publishes in the background. Clones share one backlog; the task behind them ends with the last of them.
#[derive(Clone)]
pub struct Publisher {
    backlog: mpsc::Sender<Dispatch>,
    counts: Arc<Counts>,
    done: watch::Receiver<u64>,
}

#[derive(Default)]
struct Counts {
    taken: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Publisher {
    /// Starts the task.
    #[must_use]
    pub fn spawn(broker: Arc<dyn Broker>) -> Self {
        let (backlog, queue) = mpsc::channel(BACKLOG);
        let (progress, done) = watch::channel(0);
        let counts = Arc::new(Counts::default());
        tokio::spawn(run(broker, queue, progress, counts.clone()));
        Self { backlog, counts, done }
    }

    /// Hands dispatches over. Never blocks and never fails: what does not fit in the backlog is dropped, and counted.
    pub fn send(&self, dispatches: Vec<Dispatch>) {
        for dispatch in dispatches {
            if self.backlog.try_send(dispatch).is_ok() {
                self.counts.taken.fetch_add(1, Ordering::SeqCst);
            } else {
                let dropped = self.counts.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if dropped.is_power_of_two() {
                    tracing::warn!(
                        dropped,
                        "more to publish than the broker takes; these jobs are found in the database"
                    );
                }
            }
        }
    }

    /// Waits until all that was handed over so far has been published or given up, at most for `patience`. Answers
    /// whether that was enough.
    pub async fn flush(&self, patience: Duration) -> bool {
        let target = self.counts.taken.load(Ordering::SeqCst);
        let mut done = self.done.clone();
        tokio::time::timeout(patience, done.wait_for(|done| *done >= target)).await.is_ok_and(|waited| waited.is_ok())
    }

    /// How many dispatches were dropped because the backlog was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// How many dispatches the broker did not take, or did not confirm.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Ordering::Relaxed)
    }
}

async fn run(
    broker: Arc<dyn Broker>,
    mut queue: mpsc::Receiver<Dispatch>,
    progress: watch::Sender<u64>,
    counts: Arc<Counts>,
) {
    let mut failing = false;
    loop {
        let mut round = Vec::new();
        let taken = queue.recv_many(&mut round, ROUND).await;
        if taken == 0 {
            break;
        }
        let publish = async {
            failpoint::reach("publish.before");
            let outcomes = broker.publish(messages(round)).await;
            failpoint::reach("publish.after");
            outcomes
        };
        let failures: Vec<Error> = match panics::caught(publish).await {
            Ok(outcomes) => outcomes.into_iter().filter_map(Result::err).collect(),
            Err(why) => vec![Error::Unavailable(why); taken],
        };
        counts.failed.fetch_add(failures.len() as u64, Ordering::Relaxed);
        match failures.first() {
            Some(error) if !failing => {
                tracing::warn!(%error, count = failures.len(), "not published; these jobs are found in the database");
            }
            None if failing => tracing::info!(failed = counts.failed.load(Ordering::Relaxed), "publishing again"),
            _ => {}
        }
        failing = !failures.is_empty();
        progress.send_modify(|done| *done += taken as u64);
    }
}

/// Which dispatches share a message. One each: a message is small, and a worker's prefetch then counts jobs.
fn messages(dispatches: Vec<Dispatch>) -> Vec<Message> {
    dispatches.into_iter().map(Message::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::in_process::InProcessBroker;
    use crate::broker::{Consumer, Event, Health, Signal, Signals, Topic};
    use crate::job::{JobId, Lane, Priority};
    use crate::store::Pointer;
    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn lane() -> Lane {
        Lane { queue: "default".into(), priority: Priority::Normal }
    }

    fn dispatches(count: usize) -> Vec<Dispatch> {
        let pointer = Pointer { id: JobId::new(), epoch: 0, queued_at: 0 };
        vec![Dispatch { lane: lane(), pointer, traceparent: None }; count]
    }

    /// Takes nothing until it is let to, and then refuses all; a single message makes it panic.
    struct Refusing(Arc<Semaphore>);

    #[async_trait]
    impl Broker for Refusing {
        async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), Error>> {
            self.0.acquire().await.expect("open").forget();
            assert!(messages.len() > 1, "on purpose");
            messages.iter().map(|_| Err(Error::Unavailable("on purpose".into()))).collect()
        }
        async fn consume(&self, lanes: &[Lane], prefetch: u16) -> Box<dyn Consumer> {
            InProcessBroker::new().consume(lanes, prefetch).await
        }
        async fn signal(&self, _signal: Signal) {}
        async fn listen(&self, topic: Topic) -> Box<dyn Signals> {
            InProcessBroker::new().listen(topic).await
        }
        fn health(&self) -> Health {
            Health::Up
        }
        async fn close(&self, _patience: Duration) {}
    }

    #[tokio::test]
    async fn what_is_sent_is_published_in_order() {
        let broker = InProcessBroker::new();
        let publisher = Publisher::spawn(Arc::new(broker.clone()));
        let sent: Vec<Dispatch> = (0..2_500).map(|_| dispatches(1).remove(0)).collect();
        publisher.send(sent.clone());
        assert!(publisher.flush(PATIENCE).await);
        let mut consumer = broker.consume(&[lane()], 3_000).await;
        let mut arrived = Vec::new();
        while arrived.len() < sent.len() {
            if let Some(Event::Delivery(delivery)) = consumer.next().await {
                arrived.extend(delivery.pointers);
            }
        }
        assert!(arrived.iter().eq(sent.iter().map(|dispatch| &dispatch.pointer)));
        assert_eq!((publisher.dropped(), publisher.failed()), (0, 0));
    }

    #[tokio::test]
    async fn a_full_backlog_drops_and_counts_and_failures_are_not_repeated() {
        let gate = Arc::new(Semaphore::new(0));
        let publisher = Publisher::spawn(Arc::new(Refusing(gate.clone())));
        publisher.send(dispatches(BACKLOG + 7));
        assert_eq!(publisher.dropped(), 7);
        assert!(!publisher.flush(Duration::ZERO).await, "nothing has been let through");
        gate.add_permits(BACKLOG);
        assert!(publisher.flush(PATIENCE).await);
        assert_eq!(publisher.failed(), BACKLOG as u64);
    }
    #[tokio::test]
    async fn a_publish_that_panics_is_a_failed_one() {
        let publisher = Publisher::spawn(Arc::new(Refusing(Arc::new(Semaphore::new(2)))));
        for round in [1, 2] {
            publisher.send(dispatches(round));
            assert!(publisher.flush(PATIENCE).await, "it goes on");
        }
        assert_eq!(publisher.failed(), 3);
    }
}
