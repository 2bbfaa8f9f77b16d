//! The RabbitMQ broker against the suite that every broker passes, on both types of queue, and against the faults that
//! are RabbitMQ's own. Everything goes through a proxy that can cut, stall and restore the network.

mod faults;
mod harness;

use std::sync::Arc;

use async_trait::async_trait;
use offload_common::broker::Broker;
use offload_common::config::QueueType;
use offload_common::testing::broker_conformance::BrokerHarness;

use self::harness::Rabbit;

struct Quorum(Rabbit);

struct Classic(Rabbit);

macro_rules! harness {
    ($backend:ident) => {
        #[async_trait]
        impl BrokerHarness for $backend {
            async fn start() -> Self {
                Self(Rabbit::start(QueueType::$backend).await)
            }

            fn broker(&self) -> Arc<dyn Broker> {
                self.0.broker.clone()
            }

            async fn disconnect(&self) {
                self.0.proxy.disconnect();
            }

            async fn finish(self) {
                self.0.finish().await;
            }
        }
    };
}

harness!(Quorum);
harness!(Classic);

offload_common::broker_conformance!(broker_rabbitmq, Quorum);
offload_common::broker_conformance!(broker_rabbitmq_classic, Classic);
