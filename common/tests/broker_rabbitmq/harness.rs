//! What the tests against a real RabbitMQ share.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use offload_common::broker::Broker;
use offload_common::broker::rabbitmq::RabbitBroker;
use offload_common::config::{BrokerConfig, QueueType};
use offload_common::job::{JobId, Priority};
use offload_common::testing::Proxy;
use tokio::runtime::{Builder, Runtime};

/// A broker with names of its own, behind a proxy, and a direct connection beside it to look and to clean up.
pub(crate) struct Rabbit {
    pub(crate) broker: Arc<RabbitBroker>,
    pub(crate) proxy: Proxy,
    pub(crate) config: BrokerConfig,
    pub(crate) admin: Connection,
    /// The broker's own, so that its tasks can be counted.
    runtime: Runtime,
}

impl Rabbit {
    pub(crate) async fn start(queue_type: QueueType) -> Self {
        Self::start_with(queue_type, "").await
    }

    /// With parameters for the URL.
    pub(crate) async fn start_with(queue_type: QueueType, query: &str) -> Self {
        let direct = std::env::var("OFFLOAD_TEST_AMQP_URL")
            .expect("OFFLOAD_TEST_AMQP_URL names a RabbitMQ to test against; run `scripts/test`, which sets it");
        let mut url: url::Url = direct.parse().expect("OFFLOAD_TEST_AMQP_URL is a URL");
        let authority = (url.host_str().expect("a host").to_owned(), url.port().unwrap_or(5672));
        let target = tokio::net::lookup_host(authority).await.expect("resolved").next().expect("an address");
        let proxy = Proxy::start(target).await;
        url.set_host(Some("127.0.0.1")).expect("a host can be set");
        url.set_port(Some(proxy.addr().port())).expect("a port can be set");
        url.set_query(Some(query));
        let config = BrokerConfig {
            url: None,
            prefix: format!("offload_test_{}", JobId::new()),
            queue_type,
            publish_timeout_seconds: 10.0,
        };
        let admin = Connection::connect(&direct, ConnectionProperties::default()).await.expect("RabbitMQ answers");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let broker = {
            let _inside = runtime.enter();
            Arc::new(RabbitBroker::open(&config, url.as_str(), "test").expect("a valid configuration"))
        };
        Self { broker, proxy, config, admin, runtime }
    }

    /// How many tasks the broker has: its own, and those of its connections.
    pub(crate) fn tasks(&self) -> usize {
        self.runtime.metrics().num_alive_tasks()
    }

    /// The name of a lane's queue.
    pub(crate) fn queue(&self, priority: Priority) -> String {
        format!("{}.default.{priority}", self.config.prefix)
    }

    /// A channel past the proxy.
    pub(crate) async fn channel(&self) -> Channel {
        self.admin.create_channel().await.expect("a channel")
    }

    /// Messages that are ready in a queue; those that a consumer holds do not count.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel().await.queue_declare(queue.into(), passive, FieldTable::default()).await;
        declared.expect("the queue is there").message_count()
    }

    /// Deletes a lane's queue, with what is in it.
    pub(crate) async fn delete(&self, priority: Priority) {
        let deleted =
            self.channel().await.queue_delete(self.queue(priority).into(), QueueDeleteOptions::default()).await;
        deleted.expect("deleted");
    }

    /// Closes the broker and removes what it declared.
    pub(crate) async fn finish(self) {
        let channel = self.channel().await;
        let lanes = Priority::ALL.map(|priority| self.queue(priority));
        self.broker.close(Duration::from_secs(5)).await;
        self.runtime.shutdown_background();
        for queue in lanes.into_iter().chain([format!("{}.parked", self.config.prefix)]) {
            channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
        }
        let exchange = format!("{}.signals", self.config.prefix);
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.expect("deleted");
    }
}
