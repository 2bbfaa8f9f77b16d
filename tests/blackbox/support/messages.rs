//! The test's own messages on RabbitMQ.

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};

/// Puts a message into a queue.
pub(crate) async fn put(url: &str, queue: &str, body: &[u8]) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), queue.into(), options, body, BasicProperties::default()).await?;
    connection.close(200, "done".into()).await
}

/// How many messages of a queue wait for a consumer.
pub(crate) async fn ready(url: &str, queue: &str) -> lapin::Result<u32> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let ready = channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count();
    connection.close(200, "done".into()).await?;
    Ok(ready)
}
