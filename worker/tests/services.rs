//! The worker engine over PostgreSQL and RabbitMQ.

mod engine;

/// What production runs on: a database and queues of the test's own, gone when it ends.
mod backend {
    use std::sync::Arc;
    use std::time::Duration;

    use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
    use lapin::{Connection, ConnectionProperties};
    use offload_common::broker::Broker;
    use offload_common::broker::rabbitmq::RabbitBroker;
    use offload_common::config::{BrokerConfig, Config, QueueType};
    use offload_common::job::JobId;
    use offload_common::store::Store;
    use offload_common::store::postgres::PostgresStore;
    use offload_common::testing::Proxy;
    use offload_common::testing::database::TestDatabase;
    use url::Url;

    pub(crate) struct Backend {
        pub(crate) store: Arc<dyn Store>,
        pub(crate) broker: Arc<dyn Broker>,
        proxy: Proxy,
        _queues: Queues,
        database: TestDatabase,
    }

    impl Backend {
        pub(crate) async fn open() -> Self {
            let database = TestDatabase::create().await;
            let config = Config::defaults();
            let instance = format!("test-{}", JobId::new());
            let store = PostgresStore::open(&config.database, &database.url(), &instance).expect("a URL");

            let direct = std::env::var("OFFLOAD_TEST_AMQP_URL")
                .expect("OFFLOAD_TEST_AMQP_URL is not set: run the tests through scripts/test, which sets it");
            let mut url = Url::parse(&direct).expect("OFFLOAD_TEST_AMQP_URL is a URL");
            let server = (url.host_str().expect("a host").to_owned(), url.port().unwrap_or(5672));
            let server = tokio::net::lookup_host(server).await.expect("resolved").next().expect("an address");
            let proxy = Proxy::start(server).await;
            url.set_host(Some("127.0.0.1")).expect("a host can be set");
            url.set_port(Some(proxy.addr().port())).expect("a port can be set");
            let prefix = format!("offload_test_{}", JobId::new());
            let config = BrokerConfig { prefix: prefix.clone(), queue_type: QueueType::Classic, ..config.broker };
            let broker = RabbitBroker::open(&config, url.as_str(), &instance).expect("a URL");
            let queues = Queues { url: direct, prefix };
            Self { store: Arc::new(store), broker: Arc::new(broker), proxy, _queues: queues, database }
        }

        /// A store for another process.
        pub(crate) fn another_store(&self) -> Arc<dyn Store> {
            let instance = format!("test-{}", JobId::new());
            let config = Config::defaults().database;
            Arc::new(PostgresStore::open(&config, &self.database.url(), &instance).expect("a URL"))
        }

        /// Cuts the connections; new ones can be made.
        pub(crate) fn lose_broker(&self) {
            self.proxy.disconnect();
        }
    }

    /// What is declared under a prefix. Deleted when this is dropped.
    struct Queues {
        url: String,
        prefix: String,
    }

    impl Queues {
        async fn delete(&self) -> lapin::Result<()> {
            let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            for queue in ["default.high", "default.normal", "default.low", "parked"] {
                // Deleting what is not there is no error.
                channel.queue_delete(format!("{}.{queue}", self.prefix).into(), QueueDeleteOptions::default()).await?;
            }
            let signals = format!("{}.signals", self.prefix);
            channel.exchange_delete(signals.into(), ExchangeDeleteOptions::default()).await?;
            connection.close(200, "done".into()).await
        }
    }

    impl Drop for Queues {
        fn drop(&mut self) {
            // On a thread of its own: a runtime cannot block on itself, and may already be shutting down.
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                    // What cannot be deleted now goes with the virtual host; a panic here would hide the test's own.
                    let delete = async { tokio::time::timeout(Duration::from_secs(5), self.delete()).await };
                    let _ = runtime.block_on(delete);
                    std::io::Result::Ok(())
                });
            });
        }
    }
}
