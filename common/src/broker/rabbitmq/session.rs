//! Consuming on one channel, from the first delivery to its end: deliveries out, acknowledgements in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready, try_join_all};
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, once, select_all};
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, Frame};
use super::connect::Live;
use super::consume::Subscription;
use super::names::Queue;
use super::outgoing::{Outgoing, traceparent};
use super::publish::PublishQueue;
use crate::broker::{Delivery, Event, Malformed, Message, Tag};
use crate::job::Lane;
use crate::retry;

/// How long an acknowledgement may wait for others to share its frame.
const GROUPING: Duration = Duration::from_millis(50);
/// How long closing a channel may take.
const CLOSING: Duration = Duration::from_secs(2);
/// The longest pause between attempts to park a message.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a worker says of a delivery.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Ack(u64),
    Requeue(u64),
}

/// How it came to an end.
#[derive(Debug, PartialEq)]
pub(super) enum End {
    /// As it was asked to.
    Closed,
    /// Not by our doing; why.
    Lost(String),
}

/// The lane by its index, and what came on it: `None` is the end of its consumer.
type Arrival = (usize, Option<Result<lapin::message::Delivery, lapin::Error>>);

/// One channel with one consumer per lane.
pub(super) struct Session {
    live: Arc<Live>,
    channel: Channel,
    lanes: Vec<Lane>,
    consumers: Vec<ShortString>,
    arrivals: SelectAll<BoxStream<'static, Arrival>>,
    generation: u64,
    acks: Acks,
    /// This many acknowledgements are worth a frame of their own at once.
    many: usize,
    /// Messages on their way to the parked queue; each yields its tag once it is there.
    parking: FuturesUnordered<BoxFuture<'static, u64>>,
    parked: Arc<AtomicU64>,
    publish: PublishQueue,
}

impl Session {
    /// Declares the queues and starts consuming.
    pub(super) async fn open(what: &Subscription, live: Arc<Live>, generation: u64) -> Result<Self, lapin::Error> {
        let Subscription { topology, lanes, prefetch, .. } = what;
        let queues: Vec<Queue> = lanes.iter().cloned().map(Queue::Lane).collect();
        topology.declare_queues(&live, &queues).await?;
        let channel = live.within(live.connection.create_channel()).await?;
        let mut streams = Vec::new();
        let mut consumers = Vec::new();
        for (index, queue) in queues.iter().enumerate() {
            // Not global: it bounds each consumer that starts after it, which is all that quorum queues know.
            live.within(channel.basic_qos(*prefetch, BasicQosOptions { global: false })).await?;
            let (name, tag) = (topology.names.queue(queue), ShortString::from(format!("lane-{index}")));
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(name, tag.clone(), options, FieldTable::default());
            let consumer = live.within(consuming).await?;
            consumers.push(tag);
            let arrivals = consumer.map(move |arrived| (index, Some(arrived)));
            streams.push(arrivals.chain(once(ready((index, None)))).boxed());
        }
        Ok(Self {
            live,
            channel,
            lanes: lanes.clone(),
            consumers,
            arrivals: select_all(streams),
            generation,
            acks: Acks::new(),
            many: usize::from(prefetch / 4).max(1),
            parking: FuturesUnordered::new(),
            parked: what.parked.clone(),
            publish: what.publish.clone(),
        })
    }

    /// What its tags carry.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Hangs up: nobody can tell any more what it holds, so all of it goes back.
    pub(super) fn fail(&self) {
        self.live.fail();
    }

    /// Works until closed or lost. Once stopped and drained, `events` is taken and dropped: its reader sees the end.
    pub(super) async fn run(
        &mut self,
        events: &mut Option<mpsc::Sender<Event>>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        stop: &CancellationToken,
        close: &CancellationToken,
    ) -> End {
        let lost = self.live.lost.clone();
        let working = self.work(events, commands, stop, close);
        let end = match lost.run_until_cancelled(working).await {
            Some(Ok(())) => End::Closed,
            Some(Err(why)) => End::Lost(why),
            None => End::Lost("the connection is gone".into()),
        };
        // Unsettled deliveries go back when the channel closes, also where the connection lives on.
        let _ = tokio::time::timeout(CLOSING, self.channel.close(200, "done".into())).await;
        end
    }

    async fn work(
        &mut self,
        events: &mut Option<mpsc::Sender<Event>>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        stop: &CancellationToken,
        close: &CancellationToken,
    ) -> Result<(), String> {
        let mut stopping = false;
        let mut said = Vec::new();
        let mut grouping = std::pin::pin!(tokio::time::sleep(GROUPING));
        loop {
            let waiting = self.acks.pending() > 0;
            let mut drained = false;
            tokio::select! {
                biased;
                () = close.cancelled() => {
                    while let Ok(command) = commands.try_recv() {
                        said.push(command);
                    }
                    self.settle(&mut said).await?;
                    let frames = self.acks.take_all();
                    return send(&self.live, &self.channel, frames).await;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    for tag in &self.consumers {
                        let cancelling = self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default());
                        self.live.within(cancelling).await.map_err(told)?;
                    }
                }
                _ = commands.recv_many(&mut said, 1024) => self.settle(&mut said).await?,
                () = &mut grouping, if waiting => {
                    let frames = self.acks.take_all();
                    send(&self.live, &self.channel, frames).await?;
                }
                Some(tag) = self.parking.next() => {
                    self.parked.fetch_add(1, Ordering::Relaxed);
                    self.acks.ack(tag);
                }
                arrived = arrival(events, &mut self.arrivals) => match arrived {
                    Some((permit, (lane, Some(arrived)))) => {
                        let event = self.receive(lane, arrived.map_err(told)?).await?;
                        if let Some(event) = event {
                            permit.send(event);
                        }
                    }
                    Some((_, (lane, None))) if !stopping => {
                        let lane = &self.lanes[lane];
                        return Err(format!("the broker ended the consumer of {lane}: its queue was deleted or moved"));
                    }
                    Some((_, (_, None))) => {}
                    // Every consumer has ended, or nobody reads any more.
                    None => drained = true,
                },
            }
            if drained {
                *events = None;
            }
            if !waiting && self.acks.pending() > 0 {
                grouping.set(tokio::time::sleep(GROUPING));
            }
        }
    }

    /// What to tell of a message that arrived.
    async fn receive(&mut self, lane: usize, arrived: lapin::message::Delivery) -> Result<Option<Event>, String> {
        let number = arrived.delivery_tag;
        let refused = match Message::parse(&arrived.data) {
            Ok(pointers) => {
                return Ok(Some(Event::Delivery(Delivery {
                    lane: self.lanes[lane].clone(),
                    pointers,
                    traceparent: traceparent(&arrived.properties),
                    redelivered: arrived.redelivered,
                    tag: Tag { generation: self.generation, number },
                })));
            }
            Err(refused) => refused,
        };
        // During an upgrade, somebody else may understand what is newer, so it is given back once. The second time it
        // is set aside like anything else: the row is there, and is found.
        if matches!(refused, Malformed::Version(_)) && !arrived.redelivered {
            let frames = self.acks.requeue(number);
            send(&self.live, &self.channel, frames).await?;
            return Ok(None);
        }
        let (reason, before) = (refused.to_string(), self.parked.load(Ordering::Relaxed));
        let lane = &self.lanes[lane];
        tracing::warn!(%lane, reason, before, "a message that is not ours is set aside in the parked queue");
        let (parcel, publish) = (Outgoing::parked(arrived.data, &arrived.properties, &reason), self.publish.clone());
        let parked = async move {
            let attempt =
                || async { publish.publish(vec![parcel.clone()]).await.into_iter().collect::<Result<(), _>>() };
            retry::until_reached("the parked queue", LONGEST_PAUSE, attempt).await;
            number
        };
        self.parking.push(parked.boxed());
        Ok(None)
    }

    /// Takes in what was said, and sends what is worth sending at once.
    async fn settle(&mut self, said: &mut Vec<Command>) -> Result<(), String> {
        let mut frames = Vec::new();
        for command in said.drain(..) {
            match command {
                Command::Ack(number) => self.acks.ack(number),
                Command::Requeue(number) => frames.extend(self.acks.requeue(number)),
            }
        }
        if self.acks.pending() >= self.many {
            frames.extend(self.acks.take_contiguous());
        }
        if self.acks.pending() >= 2 * self.many {
            // A slow job in front holds up half of the places.
            frames.extend(self.acks.take_all());
        }
        send(&self.live, &self.channel, frames).await
    }
}

/// Sends frames in order.
async fn send(live: &Live, channel: &Channel, frames: impl IntoIterator<Item = Frame>) -> Result<(), String> {
    let sent = frames.into_iter().map(|frame| async move {
        let ack = |multiple| BasicAckOptions { multiple };
        match frame {
            Frame::AckUpTo(tag) => channel.basic_ack(tag, ack(true)).await,
            Frame::Ack(tag) => channel.basic_ack(tag, ack(false)).await,
            Frame::Requeue(tag) => channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await,
        }
    });
    live.within(try_join_all(sent)).await.map(|_| ()).map_err(told)
}

/// The next arrival, with a place to put it: nothing is taken off the channel that could not be handed on. `None` when
/// every consumer has ended or nobody reads. Never ready once `events` is gone.
async fn arrival<'a>(
    events: &'a Option<mpsc::Sender<Event>>,
    arrivals: &mut SelectAll<BoxStream<'static, Arrival>>,
) -> Option<(mpsc::Permit<'a, Event>, Arrival)> {
    let Some(events) = events else { return std::future::pending().await };
    let permit = events.reserve().await.ok()?;
    Some((permit, arrivals.next().await?))
}

fn told(error: lapin::Error) -> String {
    error.to_string()
}
