//! RabbitMQ, by AMQP 0-9-1.
//!
//! Two connections, since an alarm of the broker blocks the ones that publish: on one [`publish`] and the sending half
//! of [`signals`] work, on the other [`consume`] and the listening half. Each is kept up by a [`link`]; whoever works on
//! it declares what it needs ([`topology`]), so that a broker that comes back empty is as good as one that kept all.

mod acks;
mod address;
mod connect;
mod consume;
mod link;
mod names;
mod outgoing;
mod publish;
mod session;
mod signals;
mod topology;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::address::Address;
use self::consume::Subscription;
use self::link::Link;
use self::names::Names;
use self::outgoing::Outgoing;
use self::publish::PublishQueue;
use self::signals::SignalQueue;
use self::topology::Topology;
use super::{Broker, Consumer, Error, Health, Message, Signal, Signals, Topic};
use crate::config::BrokerConfig;
use crate::job::Lane;

/// A RabbitMQ server or cluster. Dropping it ends everything; [`Broker::close`] does so in good order.
pub struct RabbitBroker {
    publishing: Arc<Link>,
    consuming: Arc<Link>,
    topology: Topology,
    publish: PublishQueue,
    signals: SignalQueue,
    tasks: TaskTracker,
    closing: CancellationToken,
    _ended_on_drop: DropGuard,
    parked: Arc<AtomicU64>,
}

impl RabbitBroker {
    /// Starts connecting in the background, and goes on until it succeeds; returns at once. `instance` names this
    /// process in the broker's own tools.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where the URL or a setting cannot be used.
    pub fn open(config: &BrokerConfig, url: &str, instance: &str) -> Result<Self, Error> {
        let address = Address::parse(url)?;
        let topology = Topology { names: Names::new(&config.prefix)?, queue_type: config.queue_type };
        let timeout = Duration::try_from_secs_f64(config.publish_timeout_seconds)
            .map_err(|error| Error::Misconfigured(format!("broker.publish_timeout_seconds: {error}")))?;
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let open = |what| Arc::new(Link::open(address.clone(), format!("offload {instance} {what}")));
        let (publishing, consuming) = (open("publishes"), open("consumes"));
        let publish = PublishQueue::start(publishing.clone(), topology.clone(), timeout, closing.clone(), &tasks);
        let signals = SignalQueue::start(publishing.clone(), topology.clone(), closing.clone(), &tasks);
        let _ended_on_drop = closing.clone().drop_guard();
        let parked = Arc::default();
        Ok(Self { publishing, consuming, topology, publish, signals, tasks, closing, _ended_on_drop, parked })
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), Error>> {
        match self.health() {
            Health::Up => self.publish.publish(messages.into_iter().map(Outgoing::from).collect()).await,
            Health::Down(why) => vec![Err(Error::Unavailable(why)); messages.len()],
        }
    }

    async fn consume(&self, lanes: &[Lane], prefetch: u16) -> Box<dyn Consumer> {
        let subscription = Subscription {
            link: self.consuming.clone(),
            topology: self.topology.clone(),
            lanes: lanes.to_vec(),
            prefetch,
            publish: self.publish.clone(),
            parked: self.parked.clone(),
        };
        subscription.start(&self.closing, &self.tasks)
    }

    async fn signal(&self, signal: Signal) {
        self.signals.send(signal);
    }

    async fn listen(&self, topic: Topic) -> Box<dyn Signals> {
        let (link, topology) = (self.consuming.clone(), self.topology.clone());
        signals::listen(link, topology, topic, self.closing.clone(), &self.tasks)
    }

    fn health(&self) -> Health {
        if self.closing.is_cancelled() { Health::Down("it is closed".into()) } else { self.publishing.health() }
    }

    fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    async fn close(&self, patience: Duration) {
        self.closing.cancel();
        self.tasks.close();
        let orderly = async {
            self.tasks.wait().await;
            tokio::join!(self.publishing.close(patience), self.consuming.close(patience));
        };
        if tokio::time::timeout(patience, orderly).await.is_err() {
            tracing::warn!("RabbitMQ took too long to say goodbye; hanging up");
            tokio::join!(self.publishing.close(Duration::ZERO), self.consuming.close(Duration::ZERO));
        }
    }
}
