//! A message as it goes out: which queue, which bytes, which properties.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::names::Queue;
use crate::broker::Message;

/// The header that carries the W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// The header that says why a message was parked.
const PARKED_REASON: &str = "x-parked-reason";
/// Headers by which the broker sends a message elsewhere, too.
const ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];
/// Written to disk by the broker before it confirms.
const PERSISTENT: u8 = 2;

/// Ready to publish.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) queue: Queue,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_app_id("offload".into());
        if let Some(traceparent) = &message.traceparent {
            let mut headers = FieldTable::default();
            headers.insert(TRACEPARENT.into(), AMQPValue::LongString(traceparent.as_str().into()));
            properties = properties.with_headers(headers);
        }
        Self { body: message.body(), queue: Queue::Lane(message.lane), properties }
    }
}

impl Outgoing {
    /// A message that is not ours, as it came, with the reason for parking it; but without what would have the broker
    /// refuse it (another's user id), send it elsewhere besides (back to where it came from, say) or let it expire.
    pub(super) fn parked(body: Vec<u8>, theirs: &BasicProperties, reason: &str) -> Self {
        let mut headers = FieldTable::default();
        for (name, value) in theirs.headers().iter().flat_map(|headers| headers.inner()) {
            if !ROUTING_HEADERS.contains(&name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers.insert(PARKED_REASON.into(), AMQPValue::LongString(reason.into()));
        let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers);
        if let Some(content_type) = theirs.content_type() {
            properties = properties.with_content_type(content_type.clone());
        }
        if let Some(encoding) = theirs.content_encoding() {
            properties = properties.with_content_encoding(encoding.clone());
        }
        if let Some(id) = theirs.message_id() {
            properties = properties.with_message_id(id.clone());
        }
        if let Some(id) = theirs.correlation_id() {
            properties = properties.with_correlation_id(id.clone());
        }
        if let Some(timestamp) = theirs.timestamp() {
            properties = properties.with_timestamp(*timestamp);
        }
        if let Some(app) = theirs.app_id() {
            properties = properties.with_app_id(app.clone());
        }
        Self { queue: Queue::Parked, body, properties }
    }
}

/// The trace context that came with a message.
pub(super) fn traceparent(properties: &BasicProperties) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(TRACEPARENT)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Lane, Priority};

    #[test]
    fn the_trace_context_comes_back_out_of_the_headers() {
        let lane = Lane { queue: "default".into(), priority: Priority::Low };
        let message = Message { lane: lane.clone(), pointers: vec![], traceparent: Some("00-ab-cd-01".into()) };
        let outgoing = Outgoing::from(message);
        assert_eq!(traceparent(&outgoing.properties).as_deref(), Some("00-ab-cd-01"));
        assert_eq!((outgoing.queue, *outgoing.properties.delivery_mode()), (Queue::Lane(lane), Some(PERSISTENT)));
        assert_eq!(traceparent(&BasicProperties::default()), None);
    }

    #[test]
    fn what_is_parked_keeps_its_headers_and_says_why() {
        let mut headers = FieldTable::default();
        headers.insert("theirs".into(), AMQPValue::Boolean(true));
        headers
            .insert("CC".into(), AMQPValue::FieldArray(vec![AMQPValue::LongString("jobs.default.high".into())].into()));
        let properties = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_headers(headers)
            .with_user_id("somebody".into())
            .with_expiration("1".into());
        let parked = Outgoing::parked(b"hello".to_vec(), &properties, "not JSON");
        let headers = parked.properties.headers().clone().expect("headers").inner().clone();
        assert_eq!((&headers["theirs"], headers.len()), (&AMQPValue::Boolean(true), 2));
        assert_eq!((parked.properties.user_id(), parked.properties.expiration()), (&None, &None));
        assert_eq!(headers[PARKED_REASON], AMQPValue::LongString("not JSON".into()));
        assert_eq!((parked.queue, parked.body.as_slice()), (Queue::Parked, &b"hello"[..]));
        assert_eq!(parked.properties.content_type().as_ref().map(|kind| kind.as_str()), Some("text/plain"));
    }
}
