//! The broker port: what carries pointers to workers, and signals between processes.
//!
//! A message is a hint. Lost, doubled, late or reordered messages may cost time, never correctness, so every method
//! here is allowed to fail. Implementations reconnect by themselves.
//!
//! [`crate::testing`] holds the suite that every implementation passes.

pub mod in_process;
mod message;
pub mod rabbitmq;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::job::{JobId, Lane};
use crate::store::Pointer;

pub use message::{Malformed, Message};

/// Why the broker did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Not connected, or no answer in time.
    #[error("the broker is not available: {0}")]
    Unavailable(String),
    /// It took the message, but no queue did, or it refused it.
    #[error("the broker did not keep the message: {0}")]
    Unconfirmed(String),
    /// Its configuration cannot be used.
    #[error("the broker cannot be used: {0}")]
    Misconfigured(String),
}

/// Where a delivery came from, to settle it by. Void once the connection that brought it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Which connection.
    pub generation: u64,
    /// Which delivery on it.
    pub number: u64,
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The lane it came on.
    pub lane: Lane,
    /// What it points at.
    pub pointers: Vec<Pointer>,
    /// The W3C `traceparent` that came along.
    pub traceparent: Option<String>,
    /// Whether it was delivered before, to anybody.
    pub redelivered: bool,
    /// To settle it by.
    pub tag: Tag,
}

/// What a consumer tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message.
    Delivery(Delivery),
    /// The connection is lost: every unsettled delivery will come again, to anybody. The consumer reconnects by itself.
    Disconnected,
    /// Consuming (again).
    Connected,
}

/// Settles deliveries. Cheap to call from anywhere; sends in the background, grouped. Tags of a connection that is gone
/// are ignored.
pub trait Settle: Send + Sync {
    /// The database shows that this delivery is no longer needed.
    fn ack(&self, tag: Tag);

    /// Gives it back for others.
    fn requeue(&self, tag: Tag);
}

/// A subscription to lanes.
#[async_trait]
pub trait Consumer: Send {
    /// The next event; `None` once stopped and drained of what had already arrived.
    async fn next(&mut self) -> Option<Event>;

    /// The settling side.
    fn settle(&self) -> Arc<dyn Settle>;

    /// Takes no further deliveries. Those that arrived stay to be settled.
    async fn stop(&mut self);

    /// Settles what is left to settle, and closes.
    async fn close(self: Box<Self>);
}

/// What processes tell each other at once; the database is the truth, so a lost signal only costs time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// To workers: these running jobs are to be cancelled.
    Cancel(Vec<JobId>),
    /// To whoever waits: these jobs changed.
    Changed(Vec<JobId>),
}

/// Which signals a listener wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// [`Signal::Cancel`].
    Cancel,
    /// [`Signal::Changed`].
    Changed,
}

impl Signal {
    /// The topic it goes out on.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            Signal::Cancel(_) => Topic::Cancel,
            Signal::Changed(_) => Topic::Changed,
        }
    }
}

/// A listener's end. Signals that arrive while it does not listen, or while the broker is away, are lost.
#[async_trait]
pub trait Signals: Send {
    /// The next one; `None` once the broker is closed.
    async fn next(&mut self) -> Option<Signal>;
}

/// Whether the broker is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Connected, and it accepts publishes.
    Up,
    /// Not connected, or blocked by an alarm; why.
    Down(String),
}

/// What carries pointers to workers.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Publishes, durably; answers one entry per message, in order, when each is confirmed or known not to be. Bounded
    /// in time.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), Error>>;

    /// Consumes from lanes with at most `prefetch` unsettled deliveries of each. Returns at once; the consumer connects
    /// by itself.
    async fn consume(&self, lanes: &[Lane], prefetch: u16) -> Box<dyn Consumer>;

    /// Tells every listening process. Best effort, not persistent.
    async fn signal(&self, signal: Signal);

    /// Listens. Returns at once; connects, and connects again, by itself.
    async fn listen(&self, topic: Topic) -> Box<dyn Signals>;

    /// Whether it is there, as last seen.
    fn health(&self) -> Health;

    /// How many messages that were not ours this process has set aside, where an operator finds them.
    fn parked(&self) -> u64 {
        0
    }

    /// Closes the connections in good order, within `patience`.
    async fn close(&self, patience: Duration);
}
