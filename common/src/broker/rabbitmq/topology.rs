//! The queues and the exchange, declared by whoever uses them first. A deleted queue is declared again when a publish
//! finds it missing or a consumer is cancelled, so that the broker holds nothing that cannot be made anew.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::connect::Live;
use super::names::{Names, Queue};
use crate::config::QueueType;

/// What to declare, and how.
#[derive(Clone, Debug)]
pub(super) struct Topology {
    pub(super) names: Names,
    pub(super) queue_type: QueueType,
}

impl Topology {
    /// Makes sure that queues exist. One that is there with other properties is used as it is.
    ///
    /// The type is the only argument: an argument that another version or queue type does not know is an error, and
    /// everything else can be set by a policy.
    pub(super) async fn declare_queues(&self, live: &Live, queues: &[Queue]) -> Result<(), lapin::Error> {
        let kind = match self.queue_type {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        // A channel of its own, since a refusal closes the channel.
        let mut channel = live.within(live.connection.create_channel()).await?;
        for queue in queues {
            let name = self.names.queue(queue);
            match live.within(channel.queue_declare(name.clone(), options, arguments.clone())).await {
                Ok(_) => {}
                Err(error) if is_mismatch(&error) => {
                    tracing::warn!(
                        queue = name.as_str(),
                        %error,
                        "this queue exists, but not as broker.queue_type = \"{kind}\" would make it; it is used as it \
                         is. To change it, delete it: it is declared anew, and no job is lost with it"
                    );
                    channel = live.within(live.connection.create_channel()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        live.within(channel.close(200, "declared".into())).await
    }

    /// Makes sure that the exchange of signals exists.
    pub(super) async fn declare_signals(&self, live: &Live, channel: &Channel) -> Result<ShortString, lapin::Error> {
        let name = self.names.signals();
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Direct;
        live.within(channel.exchange_declare(name.clone(), kind, options, FieldTable::default())).await?;
        Ok(name)
    }
}

/// Whether a declaration failed because the queue is there with other properties.
fn is_mismatch(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
}
