//! The suite's own servers do what the faults need of them.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use offload_common::testing::{eventually, within};
use sqlx::Connection as _;

use crate::support::{Postgres, RabbitMq, Shutdown};

#[tokio::test]
async fn postgres_comes_back_with_what_was_committed() {
    let mut postgres = Postgres::new().await;
    postgres.create_database("kept").await;
    let mut connection = postgres.connect("kept").await;
    sqlx::query("CREATE TABLE t AS SELECT 7 AS n").execute(&mut connection).await.expect("created");
    for shutdown in [Shutdown::Fast, Shutdown::Immediate] {
        postgres.stop(shutdown).await;
        connection.ping().await.expect_err("the server is gone");
        postgres.start().await;
        connection = postgres.connect("kept").await;
    }
    assert_eq!(postgres.terminate_sessions("kept").await, 1);
    connection.ping().await.expect_err("the session is gone");
    connection = postgres.connect("kept").await;
    postgres.crash("kept").await;
    connection.ping().await.expect_err("the session is gone");
    connection = postgres.connect("kept").await;
    let n: i32 = sqlx::query_scalar("SELECT n FROM t").fetch_one(&mut connection).await.expect("read");
    assert_eq!(n, 7);
    postgres.drop_database("kept").await;
    connection.ping().await.expect_err("the database is gone");
}

async fn channel(rabbitmq: &RabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&rabbitmq.url(), ConnectionProperties::default()).await.expect("connected");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

async fn declare(channel: &Channel, kind: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("p.default.normal".into(), options, arguments).await.expect("declared");
}

async fn publish(channel: &Channel) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default().with_delivery_mode(2));
    let sent = channel.basic_publish("".into(), "p.default.normal".into(), options, b"x", properties).await;
    sent.expect("sent").await.expect("taken");
}

async fn messages(rabbitmq: &RabbitMq) -> Option<u64> {
    rabbitmq.depths("p").await.first().map(|queue| queue.messages)
}

#[tokio::test]
async fn rabbitmq_keeps_what_it_holds_until_it_is_wiped() {
    let mut rabbitmq = RabbitMq::new().await;
    let (_connection, first) = channel(&rabbitmq).await;
    declare(&first, "quorum").await;
    publish(&first).await;
    rabbitmq.stop().await;
    rabbitmq.start().await;
    eventually("the message is there", async || (messages(&rabbitmq).await == Some(1)).then_some(())).await;
    let (_connection, second) = channel(&rabbitmq).await;
    assert_eq!(rabbitmq.connections_and_channels().await, (1, 1));
    rabbitmq.close_connections(2, Duration::from_millis(10)).await;
    publish_fails(&second).await;
    rabbitmq.wipe();
    rabbitmq.start().await;
    assert_eq!(messages(&rabbitmq).await, None);
}

async fn publish_fails(channel: &Channel) {
    let status = channel.status();
    eventually("the connection is closed", async || (!status.connected()).then_some(())).await;
}

#[tokio::test]
async fn rabbitmq_blocks_publishers_and_cancels_consumers() {
    let rabbitmq = RabbitMq::with(&["consumer_timeout = 60000"]).await;
    for kind in ["quorum", "classic"] {
        let (_connection, channel) = channel(&rabbitmq).await;
        declare(&channel, kind).await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut consumer = channel
            .basic_consume("p.default.normal".into(), "".into(), options, FieldTable::default())
            .await
            .expect("consumes");
        rabbitmq.alarm(true).await;
        let publishing = tokio::spawn({
            let channel = channel.clone();
            async move { publish(&channel).await }
        });
        let delivered =
            within(Duration::from_millis(300), async || futures_util::poll!(consumer.next()).is_ready().then_some(()));
        assert!(delivered.await.is_none(), "the publish is held back");
        rabbitmq.alarm(false).await;
        publishing.await.expect("published");
        consumer.next().await.expect("delivered").expect("well");
        rabbitmq.cancel_consumers().await;
        assert!(consumer.next().await.is_none_or(|delivery| delivery.is_err()), "cancelled");
        rabbitmq.delete_queues("p").await;
        assert_eq!(messages(&rabbitmq).await, None);
    }
}
