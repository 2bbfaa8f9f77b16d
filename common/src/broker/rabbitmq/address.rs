//! Where RabbitMQ is: the URL, completed and checked.

use std::time::Duration;

use lapin::uri::AMQPUri;
use url::Url;

use crate::broker::Error;

/// Seconds between heartbeats that are asked for, unless the URL says otherwise: a peer that vanished without a word is
/// noticed after two of them.
const HEARTBEAT_SECONDS: u16 = 10;
/// How long reaching the server and shaking hands may take, in milliseconds, unless the URL says otherwise; an answer may
/// take twice that.
const CONNECT_MILLISECONDS: u64 = 5_000;

/// A checked URL.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) uri: AMQPUri,
    pub(super) connect_timeout: Duration,
}

impl Address {
    /// How long the server may take to answer a call on an open connection.
    pub(super) fn patience(&self) -> Duration {
        self.connect_timeout * 2
    }

    /// Reads `amqp://user:password@host:5672/vhost`, or `amqps://…`. Errors never repeat the URL: it holds a password.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Error::Misconfigured(format!("AMQP_URL is not of the form amqp://user:password@host:5672/vhost: {why}"))
        };
        let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        let mut uri: AMQPUri = text.parse().map_err(wrong)?;
        // The client's own parser overlooks IPv6 addresses, and would go to localhost.
        let host = url.host_str().ok_or_else(|| wrong("it names no host".into()))?;
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            uri.authority.host = address.to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let millis = *uri.query.connection_timeout.get_or_insert(CONNECT_MILLISECONDS);
        Ok(Self { uri, connect_timeout: Duration::from_millis(millis) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_url_leaves_open_is_filled_in() {
        let plain = Address::parse("amqp://me:secret@broker.example/jobs").expect("valid");
        assert_eq!((plain.uri.authority.host.as_str(), plain.uri.authority.port), ("broker.example", 5672));
        assert_eq!((plain.uri.query.heartbeat, plain.connect_timeout), (Some(10), Duration::from_secs(5)));
        let given = Address::parse("amqps://[::1]/%2f?heartbeat=3&connection_timeout=700").expect("valid");
        assert_eq!((given.uri.authority.host.as_str(), given.uri.authority.port), ("::1", 5671));
        assert_eq!((given.uri.query.heartbeat, given.connect_timeout), (Some(3), Duration::from_millis(700)));
        assert_eq!(given.uri.vhost, "/");
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for text in ["", "localhost", "http://me:secret@host/", "amqp://me:secret@host:port/", "amqp:///vhost"] {
            let error = Address::parse(text).expect_err(text).to_string();
            assert!(error.contains("AMQP_URL") && !error.contains("secret"), "{text}: {error}");
        }
    }
}
