//! The section `[server]`: the HTTP side.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The HTTP side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The address that `offload api` and `offload dev` listen on.
    pub listen: SocketAddr,
    /// The longest JSON body, in bytes.
    pub max_body_bytes: u64,
    /// The longest body of a batch with a job a line, in bytes; each line is bounded by `max_body_bytes`.
    pub max_batch_bytes: u64,
    /// The longest that `?wait=` and `Prefer: wait=` hold a request, in seconds; longer wishes are cut to it.
    pub max_wait_seconds: u64,
    /// Seconds after which a request that the database does not answer gets its 503.
    pub request_timeout_seconds: f64,
    /// Seconds that running requests get to end after SIGTERM.
    pub drain_seconds: u64,
}
