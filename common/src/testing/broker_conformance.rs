//! The suite that every broker passes. [`broker_conformance!`](crate::broker_conformance) stamps one test per case and
//! backend, so that a failure reads `broker_rabbitmq::redelivery_after_a_dropped_consumer`.

use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::broker::{Broker, Consumer, Delivery, Event, Health, Message, Signal, Signals, Topic};
use crate::job::{JobId, Lane, Priority};
use crate::store::Pointer;
use crate::testing::eventually;

/// A case that has not come to its end by then has failed.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);

/// What the suite needs of a backend.
#[async_trait]
pub trait BrokerHarness: Send + Sync + Sized {
    /// A broker that shares nothing with other tests.
    async fn start() -> Self;

    /// The broker.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Breaks every connection of the broker. It may connect again at once.
    async fn disconnect(&self);

    /// Removes what the case left behind.
    async fn finish(self);
}

/// Stamps the suite: `broker_conformance!(broker_in_process, InProcess)`, where `InProcess` is a [`BrokerHarness`].
#[macro_export]
macro_rules! broker_conformance {
    ($backend:ident, $harness:ty) => {
        mod $backend {
            use super::*;
            $crate::broker_conformance!(@cases $harness:
                a_publish_is_confirmed_and_arrives,
                a_lane_is_first_in_first_out,
                lanes_do_not_mix,
                many_pointers_travel_in_one_message,
                the_trace_context_passes_through,
                redelivery_after_a_dropped_consumer,
                a_requeued_delivery_comes_again_flagged,
                an_ack_is_final,
                the_prefetch_bound_holds,
                two_consumers_share_a_lane,
                a_stopped_consumer_drains_and_still_settles,
                what_is_unsettled_at_close_goes_to_others,
                a_consumer_resumes_after_a_disconnect,
                tags_from_before_a_disconnect_settle_nothing,
                ten_thousand_arrive_exactly_once,
                signals_reach_every_listener_of_the_topic_and_no_other,
                a_listener_survives_a_disconnect,
                a_closed_broker_ends_what_it_started,
            );
        }
    };
    (@cases $harness:ty: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let harness = <$harness as $crate::testing::broker_conformance::BrokerHarness>::start().await;
                let case = $crate::testing::broker_conformance::$case(&harness);
                let outcome = $crate::testing::broker_conformance::caught(case).await;
                harness.finish().await;
                $crate::testing::broker_conformance::conclude(outcome);
            }
        )*
    };
}

/// Runs a case to its end, its panic or the deadline, so that the harness can clean up in any case.
pub async fn caught(case: impl Future<Output = ()>) -> std::thread::Result<()> {
    let bounded = async {
        tokio::time::timeout(DEADLINE, case).await.expect("the case came to an end before its deadline");
    };
    AssertUnwindSafe(bounded).catch_unwind().await
}

/// Lets the test fail as the case did.
pub fn conclude(outcome: std::thread::Result<()>) {
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// A lane of the queue `default`, which every harness cleans up.
#[must_use]
pub fn lane(priority: Priority) -> Lane {
    Lane { queue: "default".into(), priority }
}

/// A message whose only pointer carries `number` as its epoch, to recognise it by.
#[must_use]
pub fn message(priority: Priority, number: i64) -> Message {
    let pointer = Pointer { id: JobId::new(), epoch: number, queued_at: 1_790_000_000_000_000 };
    Message { lane: lane(priority), pointers: vec![pointer], traceparent: None }
}

/// Publishes one message per number, once the broker is there.
///
/// # Panics
/// Where a message is not confirmed.
pub async fn publish(broker: &dyn Broker, priority: Priority, numbers: impl IntoIterator<Item = i64>) {
    up(broker).await;
    let messages = numbers.into_iter().map(|number| message(priority, number)).collect();
    for outcome in broker.publish(messages).await {
        outcome.expect("confirmed");
    }
}

/// Waits until the broker is there.
pub async fn up(broker: &dyn Broker) {
    eventually("the broker is there", async || (broker.health() == Health::Up).then_some(())).await;
}

/// The next delivery, past other events.
///
/// # Panics
/// Where the consumer comes to an end instead.
pub async fn delivery(consumer: &mut dyn Consumer) -> Delivery {
    loop {
        if let Event::Delivery(delivery) = consumer.next().await.expect("the consumer goes on") {
            return delivery;
        }
    }
}

/// The number that [`message`] put in.
#[must_use]
pub fn number(delivery: &Delivery) -> i64 {
    delivery.pointers[0].epoch
}

async fn numbers(consumer: &mut dyn Consumer, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.push(number(&delivery(consumer).await));
    }
    numbers
}

/// What is published is confirmed, and arrives as it was sent.
pub async fn a_publish_is_confirmed_and_arrives<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    up(&*broker).await;
    let sent = message(Priority::Normal, 7);
    let outcomes = broker.publish(vec![sent.clone()]).await;
    assert!(matches!(outcomes[..], [Ok(())]), "{outcomes:?}");
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(consumer.next().await, Some(Event::Connected));
    let arrived = delivery(&mut *consumer).await;
    assert_eq!((&arrived.lane, &arrived.pointers), (&sent.lane, &sent.pointers));
    assert!(!arrived.redelivered);
    assert_eq!(arrived.traceparent, None);
}

/// Within a lane, the order of publishing is the order of delivery.
pub async fn a_lane_is_first_in_first_out<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, 0..150).await;
    publish(&*broker, Priority::Normal, 150..300).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 300).await;
    assert_eq!(numbers(&mut *consumer, 300).await, (0..300).collect::<Vec<_>>());
}

/// A consumer gets what is in its lanes, each delivery says which, and the rest waits for others.
pub async fn lanes_do_not_mix<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::High, [1]).await;
    publish(&*broker, Priority::Normal, [2]).await;
    publish(&*broker, Priority::Low, [3]).await;
    let mut two = broker.consume(&[lane(Priority::High), lane(Priority::Low)], 5).await;
    let mut one = broker.consume(&[lane(Priority::Normal)], 5).await;
    let middle = delivery(&mut *one).await;
    assert_eq!((number(&middle), middle.lane.priority), (2, Priority::Normal));
    let ends = [delivery(&mut *two).await, delivery(&mut *two).await];
    let ends: HashSet<_> = ends.iter().map(|d| (number(d), d.lane.priority)).collect();
    assert_eq!(ends, HashSet::from([(1, Priority::High), (3, Priority::Low)]));
}

/// A message may point at many rows.
pub async fn many_pointers_travel_in_one_message<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    up(&*broker).await;
    let pointers: Vec<_> = (0..1000).map(|n| Pointer { id: JobId::new(), epoch: n, queued_at: -n }).collect();
    let sent = Message { lane: lane(Priority::Normal), pointers: pointers.clone(), traceparent: None };
    let outcomes = broker.publish(vec![sent]).await;
    assert!(matches!(outcomes[..], [Ok(())]), "{outcomes:?}");
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(delivery(&mut *consumer).await.pointers, pointers);
}

/// What came with the request arrives with the delivery.
pub async fn the_trace_context_passes_through<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    up(&*broker).await;
    let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let sent = Message { traceparent: traceparent.clone(), ..message(Priority::Normal, 1) };
    let outcomes = broker.publish(vec![sent]).await;
    assert!(matches!(outcomes[..], [Ok(())]), "{outcomes:?}");
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(delivery(&mut *consumer).await.traceparent, traceparent);
}

/// What a consumer held when it went away goes to others, flagged.
pub async fn redelivery_after_a_dropped_consumer<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, [1]).await;
    let mut first = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert!(!delivery(&mut *first).await.redelivered);
    drop(first);
    let mut second = broker.consume(&[lane(Priority::Normal)], 1).await;
    let again = delivery(&mut *second).await;
    assert_eq!((number(&again), again.redelivered), (1, true));
}

/// What is given back comes again, flagged.
pub async fn a_requeued_delivery_comes_again_flagged<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, [1]).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    let first = delivery(&mut *consumer).await;
    consumer.settle().requeue(first.tag);
    let again = delivery(&mut *consumer).await;
    assert_eq!((number(&again), again.redelivered), (1, true));
}

/// What is acknowledged never comes again; acknowledging twice does no harm.
pub async fn an_ack_is_final<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, 1..=4).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
    let settle = consumer.settle();
    for _ in 1..=4 {
        let arrived = delivery(&mut *consumer).await;
        // Out of order, with a hole: message 2 is not settled.
        if number(&arrived) != 2 {
            settle.ack(arrived.tag);
            settle.ack(arrived.tag);
        }
    }
    consumer.close().await;
    publish(&*broker, Priority::Normal, [5]).await;
    let mut other = broker.consume(&[lane(Priority::Normal)], 10).await;
    assert_eq!(HashSet::<i64>::from_iter(numbers(&mut *other, 2).await), HashSet::from([2, 5]));
}

/// A consumer holds no more than its prefetch: the next message goes to another, although this one came first.
pub async fn the_prefetch_bound_holds<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, 1..=3).await;
    let mut first = broker.consume(&[lane(Priority::Normal)], 2).await;
    let held = [delivery(&mut *first).await, delivery(&mut *first).await];
    assert_eq!(held.each_ref().map(number), [1, 2]);
    let mut second = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(number(&delivery(&mut *second).await), 3);
    // Both are full. One settled delivery makes room for one.
    publish(&*broker, Priority::Normal, [4]).await;
    first.settle().ack(held[0].tag);
    assert_eq!(number(&delivery(&mut *first).await), 4);
}

/// Consumers of one lane share it: no message goes to two.
pub async fn two_consumers_share_a_lane<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    let mut first = broker.consume(&[lane(Priority::Normal)], 5).await;
    let mut second = broker.consume(&[lane(Priority::Normal)], 5).await;
    assert_eq!(first.next().await, Some(Event::Connected));
    assert_eq!(second.next().await, Some(Event::Connected));
    publish(&*broker, Priority::Normal, 0..10).await;
    // Ten messages and ten places: each consumer is filled up.
    let (mut all, rest) = tokio::join!(numbers(&mut *first, 5), numbers(&mut *second, 5));
    all.extend(rest);
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

/// After `stop` comes what had arrived, then the end; what arrived can still be settled, what did not goes to others.
pub async fn a_stopped_consumer_drains_and_still_settles<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, 1..=5).await;
    let mut stopped = broker.consume(&[lane(Priority::Normal)], 3).await;
    let settle = stopped.settle();
    let first = delivery(&mut *stopped).await;
    stopped.stop().await;
    let mut arrived = vec![first];
    while let Some(event) = stopped.next().await {
        if let Event::Delivery(delivery) = event {
            arrived.push(delivery);
        }
    }
    let acked: HashSet<i64> = arrived.iter().map(number).collect();
    assert!(acked.len() == arrived.len() && acked.len() <= 3, "{acked:?}");
    arrived.iter().for_each(|delivery| settle.ack(delivery.tag));
    stopped.close().await;
    publish(&*broker, Priority::Normal, [6]).await;
    let mut other = broker.consume(&[lane(Priority::Normal)], 10).await;
    let rest: HashSet<i64> = numbers(&mut *other, 6 - acked.len()).await.into_iter().collect();
    assert_eq!(rest, (1..=6).filter(|n| !acked.contains(n)).collect());
}

/// Closing settles what was said, and gives the rest back, in order.
pub async fn what_is_unsettled_at_close_goes_to_others<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, 1..=4).await;
    let mut first = broker.consume(&[lane(Priority::Normal)], 4).await;
    let settle = first.settle();
    let held = [delivery(&mut *first).await, delivery(&mut *first).await, delivery(&mut *first).await];
    settle.ack(held[0].tag);
    settle.requeue(held[2].tag);
    first.close().await;
    let mut second = broker.consume(&[lane(Priority::Normal)], 4).await;
    let mut again = numbers(&mut *second, 3).await;
    again.sort_unstable();
    assert_eq!(again, [2, 3, 4]);
}

/// After the loss of the connection: an event that says so, one that says it is back, and the unsettled delivery again.
pub async fn a_consumer_resumes_after_a_disconnect<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, [1]).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    let first = delivery(&mut *consumer).await;
    harness.disconnect().await;
    assert_eq!(consumer.next().await, Some(Event::Disconnected));
    assert_eq!(consumer.next().await, Some(Event::Connected));
    let again = delivery(&mut *consumer).await;
    assert_eq!((number(&again), again.redelivered), (1, true));
    assert_ne!(again.tag.generation, first.tag.generation);
    consumer.settle().ack(again.tag);
    publish(&*broker, Priority::Normal, [2]).await;
    let next = delivery(&mut *consumer).await;
    assert_eq!((number(&next), next.redelivered), (2, false));
}

/// A tag is void once its connection is gone, although its number may be in use again.
pub async fn tags_from_before_a_disconnect_settle_nothing<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, [1]).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    let old = delivery(&mut *consumer).await;
    harness.disconnect().await;
    assert_eq!(number(&delivery(&mut *consumer).await), 1);
    consumer.settle().ack(old.tag);
    consumer.settle().requeue(old.tag);
    consumer.close().await;
    let mut other = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(number(&delivery(&mut *other).await), 1);
}

/// While nothing fails, nothing is lost and nothing doubled.
pub async fn ten_thousand_arrive_exactly_once<H: BrokerHarness>(harness: &H) {
    const COUNT: i64 = 10_000;
    let broker = harness.broker();
    up(&*broker).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 200).await;
    // A queue that is being made may still refuse messages.
    assert_eq!(consumer.next().await, Some(Event::Connected));
    let publishing = async {
        let rounds = (0..COUNT / 500).map(|round| publish(&*broker, Priority::Normal, round * 500..(round + 1) * 500));
        join_all(rounds).await;
    };
    let consuming = async {
        let settle = consumer.settle();
        let mut seen = HashSet::new();
        while seen.len() < COUNT as usize {
            let arrived = delivery(&mut *consumer).await;
            assert!(seen.insert(number(&arrived)), "{} came twice", number(&arrived));
            settle.ack(arrived.tag);
        }
        consumer.close().await;
    };
    tokio::join!(publishing, consuming);
    publish(&*broker, Priority::Normal, [COUNT]).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    assert_eq!(number(&delivery(&mut *consumer).await), COUNT, "nothing else is left");
}

/// Waits until a listener hears, by signalling until it does: what is sent before it listens is lost, rightly.
async fn heard(broker: &dyn Broker, listener: &mut dyn Signals, signal: impl Fn(Vec<JobId>) -> Signal) {
    let probe = signal(vec![JobId::new()]);
    loop {
        broker.signal(probe.clone()).await;
        if tokio::time::timeout(POLL, listener.next()).await.is_ok_and(|got| got.as_ref() == Some(&probe)) {
            return;
        }
    }
}

/// Reads until `last` arrives; answers all that came.
async fn until(listener: &mut dyn Signals, last: &Signal) -> Vec<Signal> {
    let mut all = Vec::new();
    while all.last() != Some(last) {
        all.push(listener.next().await.expect("the listener goes on"));
    }
    all
}

/// A signal goes to all that listen to its topic, and to nobody else.
pub async fn signals_reach_every_listener_of_the_topic_and_no_other<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    let mut changes = [broker.listen(Topic::Changed).await, broker.listen(Topic::Changed).await];
    let mut cancels = broker.listen(Topic::Cancel).await;
    for listener in &mut changes {
        heard(&*broker, &mut **listener, Signal::Changed).await;
    }
    heard(&*broker, &mut *cancels, Signal::Cancel).await;
    let (changed, cancel) = (Signal::Changed(vec![JobId::new(), JobId::new()]), Signal::Cancel(vec![JobId::new()]));
    broker.signal(changed.clone()).await;
    broker.signal(cancel.clone()).await;
    for listener in &mut changes {
        let all = until(&mut **listener, &changed).await;
        assert!(all.iter().all(|signal| signal.topic() == Topic::Changed), "{all:?}");
    }
    let all = until(&mut *cancels, &cancel).await;
    assert!(all.iter().all(|signal| signal.topic() == Topic::Cancel), "{all:?}");
}

/// A listener hears again after the connection was lost.
pub async fn a_listener_survives_a_disconnect<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    let mut listener = broker.listen(Topic::Cancel).await;
    heard(&*broker, &mut *listener, Signal::Cancel).await;
    harness.disconnect().await;
    heard(&*broker, &mut *listener, Signal::Cancel).await;
}

/// Closing ends consumers and listeners, and publishing fails from then on.
pub async fn a_closed_broker_ends_what_it_started<H: BrokerHarness>(harness: &H) {
    let broker = harness.broker();
    publish(&*broker, Priority::Normal, [1]).await;
    let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
    let mut listener = broker.listen(Topic::Changed).await;
    delivery(&mut *consumer).await;
    heard(&*broker, &mut *listener, Signal::Changed).await;
    broker.close(Duration::from_secs(10)).await;
    while listener.next().await.is_some() {}
    while consumer.next().await.is_some() {}
    assert!(matches!(broker.health(), Health::Down(_)));
    let outcomes = broker.publish(vec![message(Priority::Normal, 2)]).await;
    assert!(matches!(outcomes[..], [Err(crate::broker::Error::Unavailable(_))]), "{outcomes:?}");
}
