//! What can go wrong between Offload and RabbitMQ, done on purpose.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use offload_common::broker::{Broker, Consumer, Error, Event, Health, Message};
use offload_common::config::QueueType;
use offload_common::job::Priority;
use offload_common::testing::broker_conformance::{caught, conclude, delivery, lane, message, number, publish, up};
use offload_common::testing::eventually;

use crate::harness::Rabbit;

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);
/// What two counts of tasks may differ by without a leak: a few come and go with every connection.
const SLACK: usize = 5;

/// Runs a case against a broker of its own, and cleans up however it ends.
async fn with_rabbit<F: AsyncFnOnce(&mut Rabbit)>(queue_type: QueueType, case: F) {
    with(Rabbit::start(queue_type).await, case).await;
}

/// The same, with heartbeats that notice a hung server within two seconds.
async fn with_impatient_rabbit<F: AsyncFnOnce(&mut Rabbit)>(case: F) {
    with(Rabbit::start_with(QueueType::Quorum, "heartbeat=1&connection_timeout=500").await, case).await;
}

async fn with<F: AsyncFnOnce(&mut Rabbit)>(mut rabbit: Rabbit, case: F) {
    let outcome = caught(case(&mut rabbit)).await;
    rabbit.finish().await;
    conclude(outcome);
}

async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::time::sleep(POLL).await;
    }
}

/// Reads past deliveries until the connection was lost and is back.
async fn back_again(consumer: &mut dyn Consumer) {
    while consumer.next().await.expect("the consumer goes on") != Event::Disconnected {}
    assert_eq!(consumer.next().await, Some(Event::Connected));
}

#[tokio::test]
async fn thirty_disconnects_in_a_row_leave_nothing_behind() {
    with_impatient_rabbit(async |rabbit| {
        let broker = rabbit.broker.clone();
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        assert_eq!(consumer.next().await, Some(Event::Connected));
        up(&*broker).await;
        let before = rabbit.tasks();
        for round in 0..30 {
            rabbit.proxy.disconnect();
            back_again(&mut *consumer).await;
            // A publish can still meet the connection that is on its way out.
            until(async || broker.publish(vec![message(Priority::Normal, round)]).await[0].is_ok()).await;
            let mut arrived = delivery(&mut *consumer).await;
            while number(&arrived) != round {
                consumer.settle().ack(arrived.tag);
                arrived = delivery(&mut *consumer).await;
            }
            consumer.settle().ack(arrived.tag);
        }
        until(async || rabbit.tasks() <= before + SLACK).await;
        assert_eq!(rabbit.proxy.connections(), 2);
        consumer.close().await;
        broker.close(Duration::from_secs(5)).await;
        until(async || rabbit.tasks() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_hung_server_is_given_up_and_found_again() {
    with_impatient_rabbit(async |rabbit| {
        let broker = rabbit.broker.clone();
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        assert_eq!(consumer.next().await, Some(Event::Connected));
        up(&*broker).await;
        let before = rabbit.tasks();
        rabbit.proxy.stall();
        let outcomes = broker.publish(vec![message(Priority::Normal, 1)]).await;
        assert!(matches!(outcomes[..], [Err(Error::Unavailable(_))]), "noticed by heartbeat: {outcomes:?}");
        assert_eq!(consumer.next().await, Some(Event::Disconnected));
        // The two connections that hang, and attempts that hang in the handshake.
        until(async || rabbit.proxy.accepted() >= 10).await;
        assert!(matches!(broker.health(), Health::Down(_)));
        rabbit.proxy.restore();
        assert_eq!(consumer.next().await, Some(Event::Connected));
        publish(&*broker, Priority::Normal, [2]).await;
        while number(&delivery(&mut *consumer).await) != 2 {}
        until(async || rabbit.tasks() <= before + SLACK && rabbit.proxy.connections() == 2).await;
    })
    .await;
}

/// Without heartbeats in time: each call has its own patience.
#[tokio::test]
async fn a_server_that_does_not_answer_a_call_is_hung_up_on() {
    let rabbit = Rabbit::start_with(QueueType::Classic, "heartbeat=600&connection_timeout=500").await;
    with(rabbit, async |rabbit| {
        let broker = rabbit.broker.clone();
        up(&*broker).await;
        until(async || rabbit.proxy.connections() == 2).await;
        rabbit.proxy.stall();
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        eventually("the next attempt", async || (rabbit.proxy.accepted() > 2).then_some(())).await;
        rabbit.proxy.restore();
        assert_eq!(consumer.next().await, Some(Event::Connected));
        publish(&*broker, Priority::Normal, [1]).await;
        assert_eq!(number(&delivery(&mut *consumer).await), 1);
        // The other way: what is open already must be told to go.
        let accepted = rabbit.proxy.accepted();
        rabbit.proxy.stall();
        consumer.stop().await;
        eventually("the next attempt", async || (rabbit.proxy.accepted() > accepted).then_some(())).await;
        assert_eq!(consumer.next().await, Some(Event::Disconnected));
        assert_eq!(consumer.next().await, None, "it was stopped");
    })
    .await;
}

#[tokio::test]
async fn while_it_is_away_publishes_fail_at_once() {
    with_rabbit(QueueType::Quorum, async |rabbit| {
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, [1]).await;
        rabbit.proxy.cut();
        until(async || broker.health() != Health::Up).await;
        let outcomes = broker.publish(vec![message(Priority::Normal, 2); 3]).await;
        assert!(outcomes.iter().all(|o| matches!(o, Err(Error::Unavailable(_)))) && outcomes.len() == 3);
        rabbit.proxy.restore();
        publish(&*broker, Priority::Normal, [3]).await;
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        let arrived = [delivery(&mut *consumer).await, delivery(&mut *consumer).await];
        assert_eq!(arrived.each_ref().map(number), [1, 3]);
    })
    .await;
}

#[tokio::test]
async fn closing_a_hung_broker_ends_in_time() {
    with_impatient_rabbit(async |rabbit| {
        let broker = rabbit.broker.clone();
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        assert_eq!(consumer.next().await, Some(Event::Connected));
        up(&*broker).await;
        rabbit.proxy.stall();
        broker.close(Duration::from_millis(100)).await;
        // All that the broker had started ends, although no goodbye gets through.
        until(async || rabbit.tasks() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_whose_queue_is_deleted_declares_it_again() {
    with_rabbit(QueueType::Quorum, async |rabbit| {
        let broker = rabbit.broker.clone();
        let mut consumer = broker.consume(&[lane(Priority::High), lane(Priority::Normal)], 10).await;
        assert_eq!(consumer.next().await, Some(Event::Connected));
        publish(&*broker, Priority::High, [1]).await;
        assert!(!delivery(&mut *consumer).await.redelivered);
        rabbit.delete(Priority::Normal).await;
        back_again(&mut *consumer).await;
        // What was unsettled in the other lane comes again: its tag is void like all of that channel.
        let again = delivery(&mut *consumer).await;
        assert_eq!((number(&again), again.redelivered), (1, true));
        publish(&*broker, Priority::Normal, [2]).await;
        assert_eq!(number(&delivery(&mut *consumer).await), 2);
    })
    .await;
}

#[tokio::test]
async fn what_no_queue_takes_is_unconfirmed_and_the_queue_is_declared_again() {
    with_rabbit(QueueType::Quorum, async |rabbit| {
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, [1]).await;
        publish(&*broker, Priority::High, [2]).await;
        rabbit.delete(Priority::Normal).await;
        let mixed: Vec<Message> =
            (0..100).map(|n| message(if n % 2 == 0 { Priority::Normal } else { Priority::High }, n)).collect();
        for (index, outcome) in broker.publish(mixed).await.into_iter().enumerate() {
            match outcome {
                Err(Error::Unconfirmed(_)) => assert_eq!(index % 2, 0, "the queue of message {index} is there"),
                outcome => assert!(outcome.is_ok() && index % 2 == 1, "message {index}: {outcome:?}"),
            }
        }
        publish(&*broker, Priority::Normal, [3]).await;
        until(async || rabbit.ready(&rabbit.queue(Priority::Normal)).await == 1).await;
        until(async || rabbit.ready(&rabbit.queue(Priority::High)).await == 51).await;
    })
    .await;
}

#[tokio::test]
async fn grouped_acks_leave_exactly_what_was_not_settled() {
    // A classic queue counts what is in it without delay.
    with_rabbit(QueueType::Classic, async |rabbit| {
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, 0..500).await;
        publish(&*broker, Priority::Low, 0..500).await;
        let mut consumer = broker.consume(&[lane(Priority::Normal), lane(Priority::Low)], 500).await;
        let settle = consumer.settle();
        let mut held = Vec::new();
        while held.len() < 1000 {
            held.push(delivery(&mut *consumer).await);
        }
        // From both ends towards the middle, except every hundredth of one lane.
        while !held.is_empty() {
            let next = if held.len() % 2 == 0 { held.remove(0) } else { held.remove(held.len() - 1) };
            if next.lane.priority == Priority::Normal || number(&next) % 100 != 0 {
                settle.ack(next.tag);
            }
        }
        consumer.close().await;
        assert_eq!(rabbit.ready(&rabbit.queue(Priority::Normal)).await, 0);
        assert_eq!(rabbit.ready(&rabbit.queue(Priority::Low)).await, 5);
    })
    .await;
}

#[tokio::test]
async fn a_queue_of_another_type_is_used_as_it_is() {
    with_rabbit(QueueType::Quorum, async |rabbit| {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let name = rabbit.queue(Priority::Normal);
        let declared = rabbit.channel().await.queue_declare(name.into(), durable, FieldTable::default()).await;
        declared.expect("a classic queue");
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, [1]).await;
        let mut consumer = broker.consume(&[lane(Priority::Normal), lane(Priority::Low)], 10).await;
        assert_eq!(number(&delivery(&mut *consumer).await), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_ours_is_parked_with_its_headers_and_the_reason() {
    with_rabbit(QueueType::Quorum, async |rabbit| {
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, [1]).await;
        let channel = rabbit.channel().await;
        let mut headers = FieldTable::default();
        headers.insert("theirs".into(), AMQPValue::LongInt(7));
        let properties = BasicProperties::default().with_headers(headers);
        let queue = rabbit.queue(Priority::Normal);
        let foreign: [&[u8]; 2] = [b"hello", br#"{"v": 2, "work": {}}"#];
        for body in foreign {
            let options = BasicPublishOptions::default();
            let sent = channel.basic_publish("".into(), queue.clone().into(), options, body, properties.clone()).await;
            sent.expect("sent");
        }
        until(async || rabbit.ready(&queue).await == 3).await;
        publish(&*broker, Priority::Normal, [2]).await;
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 1).await;
        for expected in [1, 2] {
            let arrived = delivery(&mut *consumer).await;
            assert_eq!(number(&arrived), expected);
            consumer.settle().ack(arrived.tag);
        }
        let parked = format!("{}.parked", rabbit.config.prefix);
        // What is newer is given back once, for somebody who may understand it, before it is parked as well.
        until(async || broker.parked() == 2 && rabbit.ready(&parked).await == 2).await;
        for (body, why) in foreign.into_iter().zip(["not an Offload message", "is newer than this program"]) {
            let got = channel.basic_get(parked.clone().into(), BasicGetOptions::default()).await.expect("asked");
            let got = got.expect("a parked message");
            got.ack(BasicAckOptions::default()).await.expect("acknowledged");
            let headers = got.properties.headers().clone().expect("headers").inner().clone();
            assert_eq!((got.data.as_slice(), &headers["theirs"]), (body, &AMQPValue::LongInt(7)));
            let AMQPValue::LongString(reason) = &headers["x-parked-reason"] else { panic!("a text") };
            assert!(reason.to_string().contains(why), "{reason}");
        }
        // Parked and settled: nothing is left in the lane.
        consumer.close().await;
        until(async || rabbit.ready(&queue).await == 0).await;
    })
    .await;
}

/// A header of RabbitMQ's sends a message to further queues: set aside with it, it would come back.
#[tokio::test]
async fn what_would_come_back_is_parked_once() {
    with_rabbit(QueueType::Classic, async |rabbit| {
        let broker = rabbit.broker.clone();
        publish(&*broker, Priority::Normal, [1]).await;
        let queue = rabbit.queue(Priority::Normal);
        let mut headers = FieldTable::default();
        let again = AMQPValue::LongString(queue.as_str().into());
        headers.insert("CC".into(), AMQPValue::FieldArray(vec![again].into()));
        let properties = BasicProperties::default().with_headers(headers).with_expiration("600000".into());
        let (exchange, options) = ("".into(), BasicPublishOptions::default());
        let channel = rabbit.channel().await;
        channel.basic_publish(exchange, queue.into(), options, b"hello", properties).await.expect("sent");
        let mut consumer = broker.consume(&[lane(Priority::Normal)], 10).await;
        let ours = delivery(&mut *consumer).await;
        consumer.settle().ack(ours.tag);
        until(async || broker.parked() == 1).await;
        publish(&*broker, Priority::Normal, [2]).await;
        assert_eq!(number(&delivery(&mut *consumer).await), 2);
        assert_eq!(broker.parked(), 1, "nothing came in between");
        assert_eq!(rabbit.ready(&format!("{}.parked", rabbit.config.prefix)).await, 1);
    })
    .await;
}
