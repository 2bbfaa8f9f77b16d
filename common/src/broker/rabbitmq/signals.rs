//! Signals: one exchange, a routing key per topic, and for each listener a queue that vanishes with its connection.
//! Nothing is kept or confirmed, and what comes while the broker is away is dropped.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::Live;
use super::link::{BREATH, LONGEST_PAUSE, Link};
use super::names::routing_key;
use super::topology::Topology;
use crate::broker::{Signal, Signals, Topic};
use crate::job::JobId;
use crate::{panics, retry};

/// Ids in one message.
const LARGEST: usize = 1_000;
/// Signals that wait, on either side, before the next is dropped.
const BACKLOG: usize = 1_024;
/// Messages that a listener's queue holds before the oldest is dropped.
const QUEUE_LENGTH: i64 = 10_000;

/// A signal in messages of bounded size.
fn split(signal: Signal) -> Vec<Signal> {
    let part: fn(Vec<JobId>) -> Signal = match signal.topic() {
        Topic::Cancel => Signal::Cancel,
        Topic::Changed => Signal::Changed,
    };
    let (Signal::Cancel(ids) | Signal::Changed(ids)) = signal;
    ids.chunks(LARGEST).map(|chunk| part(chunk.to_vec())).collect()
}

/// Hands signals to the task that sends them.
#[derive(Clone)]
pub(super) struct SignalQueue(mpsc::Sender<Signal>);

impl SignalQueue {
    /// Starts the task. It ends when `closing` fires.
    pub(super) fn start(link: Arc<Link>, topology: Topology, closing: CancellationToken, tasks: &TaskTracker) -> Self {
        let (sender, queue) = mpsc::channel(BACKLOG);
        tasks.spawn(async move { closing.run_until_cancelled(keep_sending(link, topology, queue)).await });
        Self(sender)
    }

    /// Sends, or drops where too much is waiting.
    pub(super) fn send(&self, signal: Signal) {
        for part in split(signal) {
            if self.0.try_send(part).is_err() {
                tracing::debug!("a signal is dropped: too many are waiting");
            }
        }
    }
}

async fn keep_sending(link: Arc<Link>, topology: Topology, mut queue: mpsc::Receiver<Signal>) {
    loop {
        let live = tokio::select! {
            biased;
            live = link.publishable() => live,
            signal = queue.recv() => match signal {
                Some(_) => continue,
                None => return,
            },
        };
        tokio::select! {
            biased;
            _ = link.unpublishable() => {}
            sent = panics::caught(send_all(&live, &topology, &mut queue)) => match sent {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::warn!(%error, "sending signals was interrupted"),
                Err(why) => {
                    live.fail();
                    tracing::error!(why, "sending signals was interrupted");
                }
            },
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// Sends until the queue ends or the channel fails.
async fn send_all(live: &Live, topology: &Topology, queue: &mut mpsc::Receiver<Signal>) -> Result<(), lapin::Error> {
    let channel = live.within(live.connection.create_channel()).await?;
    let exchange = topology.declare_signals(live, &channel).await?;
    let properties = BasicProperties::default().with_content_type("application/json".into());
    while let Some(signal) = queue.recv().await {
        let Ok(body) = serde_json::to_vec(&signal) else { continue };
        let (key, options) = (routing_key(signal.topic()), BasicPublishOptions::default());
        live.within(channel.basic_publish(exchange.clone(), key, options, &body, properties.clone())).await?;
    }
    Ok(())
}

/// Starts listening in the background, until the listener is dropped or `closing` fires.
pub(super) fn listen(
    link: Arc<Link>,
    topology: Topology,
    topic: Topic,
    closing: CancellationToken,
    tasks: &TaskTracker,
) -> Box<dyn Signals> {
    let (sender, inbox) = mpsc::channel(BACKLOG);
    tasks.spawn(async move {
        tokio::select! {
            () = closing.cancelled() => {}
            () = sender.closed() => {}
            () = keep_listening(&link, &topology, topic, &sender) => {}
        }
    });
    Box::new(RabbitSignals(inbox))
}

async fn keep_listening(link: &Link, topology: &Topology, topic: Topic, inbox: &mpsc::Sender<Signal>) {
    loop {
        let opening = || async {
            let live = link.live().await;
            match panics::caught(subscribe(&live, topology, topic)).await {
                Ok(subscribed) => subscribed.map(|subscribed| (subscribed, live)).map_err(|error| error.to_string()),
                Err(why) => {
                    live.fail();
                    Err(why)
                }
            }
        };
        let ((_channel, mut consumer), live) = retry::until_reached("the signals", LONGEST_PAUSE, opening).await;
        let hearing = async {
            while let Some(Ok(arrived)) = consumer.next().await {
                match serde_json::from_slice(&arrived.data) {
                    // Taken off the connection in any case: a slow listener misses signals rather than piling them up.
                    Ok(signal) => drop(inbox.try_send(signal)),
                    Err(error) => tracing::debug!(%error, "a signal that this program does not understand"),
                }
            }
        };
        if let Some(Err(why)) = live.lost.run_until_cancelled(panics::caught(hearing)).await {
            live.fail();
            tracing::error!(why, "listening to signals was interrupted");
        }
        tokio::time::sleep(BREATH).await;
    }
}

/// A queue of its own on the topic. The channel comes along because the consumer lives only as long as it does.
async fn subscribe(live: &Live, topology: &Topology, topic: Topic) -> Result<(Channel, lapin::Consumer), lapin::Error> {
    let channel = live.within(live.connection.create_channel()).await?;
    let exchange = topology.declare_signals(live, &channel).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(QUEUE_LENGTH));
    // The broker makes up the name.
    let declared = live.within(channel.queue_declare(ShortString::default(), options, arguments)).await?;
    let (queue, key, options) = (declared.name().clone(), routing_key(topic), QueueBindOptions::default());
    live.within(channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default())).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consuming = channel.basic_consume(queue, ShortString::default(), options, FieldTable::default());
    let consumer = live.within(consuming).await?;
    Ok((channel, consumer))
}

struct RabbitSignals(mpsc::Receiver<Signal>);

#[async_trait]
impl Signals for RabbitSignals {
    async fn next(&mut self) -> Option<Signal> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_signal_goes_out_in_parts_that_add_up() {
        let ids: Vec<JobId> = (0..2 * LARGEST + 1).map(|_| JobId::new()).collect();
        let parts = split(Signal::Cancel(ids.clone()));
        let parts: Vec<Vec<JobId>> = parts
            .into_iter()
            .map(|part| match part {
                Signal::Cancel(ids) => ids,
                Signal::Changed(_) => panic!("the topic changed on the way"),
            })
            .collect();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [LARGEST, LARGEST, 1]);
        assert_eq!(parts.concat(), ids);
        assert_eq!(split(Signal::Changed(vec![])), []);
    }
}
