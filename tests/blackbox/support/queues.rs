//! The test's own hand on RabbitMQ: to delete queues under load, and to clean up.

use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};

/// Deletes every queue that Offload declares under a prefix.
pub(crate) async fn delete(url: &str, prefix: &str) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in ["default.high", "default.normal", "default.low", "parked"] {
        // Deleting what is not there is no error.
        channel.queue_delete(format!("{prefix}.{queue}").into(), QueueDeleteOptions::default()).await?;
    }
    connection.close(200, "done".into()).await
}
