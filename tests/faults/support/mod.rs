//! What the fault suite builds on: servers of its own, and what the black-box suites have.

pub(crate) mod machine;
pub(crate) mod postgres;
pub(crate) mod rabbitmq;
pub(crate) mod scratch;

#[path = "../../blackbox/support/queues.rs"]
pub(crate) mod queues;

pub(crate) use postgres::{Postgres, Shutdown};
pub(crate) use rabbitmq::RabbitMq;
