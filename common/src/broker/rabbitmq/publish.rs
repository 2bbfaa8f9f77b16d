//! Publishing with confirms: one task, one channel. Rounds that come in while one is being confirmed are published
//! together next, so that a crowd shares its round trip.
//!
//! One round at a time on purpose: the client library hands a returned message to whichever publish is confirmed next,
//! so it is matched by its content against the round, and a round that is alone on its channel cannot be mistaken.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::Live;
use super::link::{BREATH, Link};
use super::names::Queue;
use super::outgoing::Outgoing;
use super::topology::Topology;
use crate::broker::Error;
use crate::panics;

/// Messages on their way at once, unconfirmed.
const WINDOW: usize = 1_000;
/// Messages that are handed over as one.
const PARCEL: usize = 250;
/// Parcels that wait at most; whoever brings more waits for room.
const BACKLOG: usize = 64;

type Outcome = Result<(), Error>;

/// Hands messages to the publishing task.
#[derive(Clone)]
pub(super) struct PublishQueue {
    parcels: mpsc::Sender<Parcel>,
    timeout: Duration,
}

struct Parcel {
    messages: Vec<Outgoing>,
    reply: oneshot::Sender<Vec<Outcome>>,
}

impl PublishQueue {
    /// Starts the task. It ends when `closing` fires and what was handed over is published.
    pub(super) fn start(
        link: Arc<Link>,
        topology: Topology,
        timeout: Duration,
        closing: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (parcels, queue) = mpsc::channel(BACKLOG);
        tasks.spawn(Task { link, topology, timeout, queue, closing }.run());
        Self { parcels, timeout }
    }

    /// Publishes; answers one outcome per message, in order.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Outcome> {
        let mut rest = messages.into_iter().peekable();
        let mut parcels = Vec::new();
        while rest.peek().is_some() {
            parcels.push(self.hand_over(rest.by_ref().take(PARCEL).collect()));
        }
        join_all(parcels).await.concat()
    }

    async fn hand_over(&self, messages: Vec<Outgoing>) -> Vec<Outcome> {
        let count = messages.len();
        let answered = async {
            let (reply, outcomes) = oneshot::channel();
            self.parcels.send(Parcel { messages, reply }).await.ok()?;
            outcomes.await.ok()
        };
        match tokio::time::timeout(self.timeout, answered).await {
            Ok(Some(outcomes)) => outcomes,
            Ok(None) => vec![Err(Error::Unavailable("publishing was interrupted".into())); count],
            Err(_) => vec![Err(late(self.timeout)); count],
        }
    }
}

fn late(timeout: Duration) -> Error {
    Error::Unconfirmed(format!("no confirmation within {} s", timeout.as_secs_f64()))
}

struct Task {
    link: Arc<Link>,
    topology: Topology,
    timeout: Duration,
    queue: mpsc::Receiver<Parcel>,
    closing: CancellationToken,
}

/// Why a channel is left.
enum Leave {
    /// Nothing more to publish, ever.
    Done,
    /// Try again on another one.
    Failed(String),
}

impl Task {
    async fn run(mut self) {
        loop {
            let live = tokio::select! {
                biased;
                live = self.link.publishable() => live,
                parcel = next(&mut self.queue, &self.closing) => {
                    let Some(parcel) = parcel else { break };
                    let why = self.link.unpublishable().await;
                    refuse([parcel], &Error::Unavailable(why));
                    continue;
                }
            };
            let left = panics::caught(self.serve(&live)).await.unwrap_or_else(|why| {
                live.fail();
                Leave::Failed(why)
            });
            match left {
                Leave::Done => break,
                Leave::Failed(why) => tracing::warn!(why, "publishing to RabbitMQ was interrupted"),
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Publishes on one channel for as long as that works.
    async fn serve(&mut self, live: &Live) -> Leave {
        let mut session = match tokio::time::timeout(self.timeout, Session::open(live, &self.topology)).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return Leave::Failed(error.to_string()),
            Err(_) => {
                live.fail();
                return Leave::Failed("no channel could be opened in time".into());
            }
        };
        loop {
            let first = tokio::select! {
                biased;
                why = self.link.unpublishable() => return Leave::Failed(why),
                first = next(&mut self.queue, &self.closing) => first,
            };
            let Some(first) = first else { return Leave::Done };
            let round = self.gather(first);
            let published = {
                let messages: Vec<&Outgoing> = round.iter().flat_map(|parcel| &parcel.messages).collect();
                tokio::select! {
                    biased;
                    why = self.link.unpublishable() => Err(Error::Unavailable(why)),
                    published = tokio::time::timeout(self.timeout, session.publish(&messages)) => match published {
                        Ok(Ok(outcomes)) => Ok(outcomes),
                        Ok(Err(error)) => Err(Error::Unavailable(error.to_string())),
                        // Nothing can be said about this connection any more.
                        Err(_) => {
                            live.fail();
                            Err(late(self.timeout))
                        }
                    },
                }
            };
            match published {
                Ok(outcomes) => answer(round, outcomes),
                Err(error) => {
                    refuse(round, &error);
                    return Leave::Failed(error.to_string());
                }
            }
        }
    }

    /// What else is waiting, as far as the window allows.
    fn gather(&mut self, first: Parcel) -> Vec<Parcel> {
        let mut count = first.messages.len();
        let mut round = vec![first];
        while count + PARCEL <= WINDOW {
            let Ok(parcel) = self.queue.try_recv() else { break };
            count += parcel.messages.len();
            round.push(parcel);
        }
        round
    }
}

/// The next parcel; `None` once closing and drained.
async fn next(queue: &mut mpsc::Receiver<Parcel>, closing: &CancellationToken) -> Option<Parcel> {
    if let Some(parcel) = closing.run_until_cancelled(queue.recv()).await {
        return parcel;
    }
    queue.close();
    queue.recv().await
}

fn answer(round: Vec<Parcel>, outcomes: Vec<Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for parcel in round {
        // Nobody waits for it where the caller has given up.
        let _ = parcel.reply.send(outcomes.by_ref().take(parcel.messages.len()).collect());
    }
}

fn refuse(round: impl IntoIterator<Item = Parcel>, error: &Error) {
    for parcel in round {
        let _ = parcel.reply.send(vec![Err(error.clone()); parcel.messages.len()]);
    }
}

/// One channel in confirm mode, and the queues that are known to be there.
struct Session<'a> {
    live: &'a Live,
    topology: Topology,
    channel: Channel,
    declared: HashSet<Queue>,
}

impl<'a> Session<'a> {
    async fn open(live: &'a Live, topology: &Topology) -> Result<Self, lapin::Error> {
        let channel = live.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { live, topology: topology.clone(), channel, declared: HashSet::new() })
    }

    /// Publishes one round. An error leaves every outcome unknown, and the channel useless.
    async fn publish(&mut self, messages: &[&Outgoing]) -> Result<Vec<Outcome>, lapin::Error> {
        self.declare(messages.iter().map(|message| &message.queue)).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sends = messages.iter().map(|message| {
            let queue = self.topology.names.queue(&message.queue);
            self.channel.basic_publish("".into(), queue, options, &message.body, message.properties.clone())
        });
        let confirms = try_join_all(sends).await?;
        let mut returned = Vec::new();
        let mut outcomes = Vec::new();
        for confirmation in try_join_all(confirms).await? {
            outcomes.push(if confirmation.is_nack() {
                Err(Error::Unconfirmed("the broker refused it: the queue is full or not available".into()))
            } else {
                Ok(())
            });
            returned.extend(Confirmation::take_message(confirmation));
        }
        if !returned.is_empty() {
            for index in unroutable(messages, &returned, &self.topology) {
                self.declared.remove(&messages[index].queue);
                outcomes[index] = Err(Error::Unconfirmed("no queue took it: the queue had been deleted".into()));
            }
            // At once, so that the next round finds the queues in place.
            self.declare(messages.iter().map(|message| &message.queue)).await?;
        }
        Ok(outcomes)
    }

    async fn declare(&mut self, queues: impl Iterator<Item = &Queue>) -> Result<(), lapin::Error> {
        let missing: HashSet<&Queue> = queues.filter(|queue| !self.declared.contains(queue)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<Queue> = missing.into_iter().cloned().collect();
        self.topology.declare_queues(self.live, &missing).await?;
        self.declared.extend(missing);
        Ok(())
    }
}

/// Which messages of a round came back, by queue and content.
fn unroutable(messages: &[&Outgoing], returned: &[BasicReturnMessage], topology: &Topology) -> Vec<usize> {
    let returned: HashSet<(&str, &[u8])> = returned
        .iter()
        .map(|message| (message.delivery.routing_key.as_str(), message.delivery.data.as_slice()))
        .collect();
    let came_back = |message: &Outgoing| {
        returned.contains(&(topology.names.queue(&message.queue).as_str(), message.body.as_slice()))
    };
    messages.iter().enumerate().filter(|(_, message)| came_back(message)).map(|(index, _)| index).collect()
}
