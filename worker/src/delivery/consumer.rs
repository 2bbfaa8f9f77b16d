//! Brings deliveries from the broker into the inbox.

use offload_common::broker::{Consumer, Delivery, Event};
use offload_common::clock;
use tokio_util::sync::CancellationToken;

use super::{Inbox, Receipt, Ticket};
use crate::run::Runs;

/// Receives until `drain` fires and what had arrived by then is given back. The consumer is handed back open, since
/// running jobs still settle through it.
pub(crate) async fn receive(
    mut consumer: Box<dyn Consumer>,
    inbox: &Inbox,
    runs: &Runs,
    drain: &CancellationToken,
) -> Box<dyn Consumer> {
    loop {
        // `next` may be dropped at any time: it waits on a channel.
        let event = tokio::select! {
            event = consumer.next() => event,
            () = drain.cancelled() => break,
        };
        match event {
            Some(Event::Delivery(delivery)) => take_in(delivery, &*consumer, inbox, runs),
            Some(Event::Connected) => tracing::info!("consuming"),
            Some(Event::Disconnected) => {
                tracing::warn!("lost the broker; running jobs go on, and waiting ones will be delivered again");
                inbox.clear();
                // Their messages go to others now, who must see that the jobs run.
                runs.claim_all();
            }
            None => break,
        }
    }
    consumer.stop().await;
    while let Some(event) = consumer.next().await {
        if let Event::Delivery(delivery) = event {
            consumer.settle().requeue(delivery.tag);
        }
    }
    inbox.clear();
    consumer
}

fn take_in(delivery: Delivery, consumer: &dyn Consumer, inbox: &Inbox, runs: &Runs) {
    let unsettled = inbox.unsettled(&delivery.lane);
    let receipts = Receipt::split(consumer.settle(), delivery.tag, delivery.pointers.len(), unsettled);
    for (pointer, receipt) in delivery.pointers.into_iter().zip(receipts) {
        let (lane, redelivered) = (delivery.lane.clone(), delivery.redelivered);
        let ticket = Ticket { lane, pointer, redelivered, arrived: clock::instant(), receipt };
        if let Some(ticket) = runs.adopt(ticket) {
            inbox.receive(ticket);
        }
    }
}
