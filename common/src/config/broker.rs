//! The section `[broker]`: what carries jobs.

use serde::{Deserialize, Serialize};

/// What carries jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `amqp://…` or `amqps://…`; `AMQP_URL` in the environment. `offload dev` and `demo` do not look at it.
    pub url: Option<String>,
    /// What the names of its queues and exchanges begin with, so that installations can share a virtual host.
    pub prefix: String,
    /// The type of the queues that are declared.
    pub queue_type: QueueType,
    /// Seconds after which a publish that is not confirmed counts as lost.
    pub publish_timeout_seconds: f64,
}

/// The type of a RabbitMQ queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// Replicated by Raft; the faster one for small persistent messages, on one node too.
    Quorum,
    /// A single copy.
    Classic,
}
