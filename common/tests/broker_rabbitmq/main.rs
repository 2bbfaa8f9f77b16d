//! The RabbitMQ broker against the suite that every broker passes, through a proxy that can cut its connections.

mod harness;

use std::sync::Arc;

use async_trait::async_trait;
use offload_common::broker::Broker;
use offload_common::testing::broker_conformance::BrokerHarness;

use self::harness::Rabbit;

#[async_trait]
impl BrokerHarness for Rabbit {
    async fn start() -> Self {
        Rabbit::start().await
    }

    fn broker(&self) -> Arc<dyn Broker> {
        self.broker.clone()
    }

    async fn disconnect(&self) {
        self.proxy.disconnect();
    }

    async fn finish(self) {
        Rabbit::finish(self).await;
    }
}

offload_common::broker_conformance!(broker_rabbitmq, Rabbit);
