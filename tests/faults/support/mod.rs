//! What the fault suite builds on: servers of its own, processes behind proxies, and what the black-box suites have.

pub(crate) mod fleet;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod rabbitmq;
pub(crate) mod scratch;
pub(crate) mod site;
pub(crate) mod timeline;

// It has more than is needed here.
#[allow(dead_code)]
#[path = "../../blackbox/support/process.rs"]
pub(crate) mod process;
#[path = "../../blackbox/support/queues.rs"]
pub(crate) mod queues;

pub(crate) use fleet::{Fleet, FleetBuilder};
pub(crate) use node::{Node, Role};
pub(crate) use postgres::{Postgres, Shutdown};
pub(crate) use rabbitmq::RabbitMq;
pub(crate) use site::Site;
pub(crate) use timeline::{Timeline, pass};
