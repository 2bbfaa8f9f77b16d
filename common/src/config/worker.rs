//! The section `[worker]`: the worker side.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The worker side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {
    /// Where a worker's probes listen; nowhere unless said.
    pub listen: Option<SocketAddr>,
    /// Jobs at once.
    pub slots: u32,
    /// CPU-bound jobs at once; 0 means one per core.
    pub compute_slots: u32,
    /// The queues it serves; empty means all.
    pub queues: Vec<String>,
    /// Seconds that running jobs get to end after SIGTERM.
    pub drain_seconds: u64,
    /// Seconds between two beats.
    pub heartbeat_seconds: f64,
    /// Seconds without a beat after which a worker counts as lost.
    pub lease_seconds: f64,
    /// Seconds that a repeatable job may run before it is claimed.
    pub lazy_claim_seconds: f64,
    /// Seconds that a queued row must be old, and this worker idle, before it is taken from the database directly.
    pub steal_after_seconds: f64,
    /// Seconds that it may let work wait which it has room for, before it says that it is not alive.
    pub watchdog_seconds: f64,
    /// Seconds after which the message of a running, claimed job is acknowledged.
    pub ack_after_seconds: f64,
}
