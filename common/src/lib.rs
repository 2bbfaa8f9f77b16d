//! The domain of Offload and its ports.
//!
//! [`job`] is the heart: what a job is, and the one pure function that decides every transition.
//! [`store`], [`broker`] and [`files`] are the ports; their implementations live in their own
//! modules and are named nowhere else but in the binary's wiring.

pub mod audit;
pub mod batch;
pub mod broker;
pub mod callback;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod files;
pub mod job;
pub mod kind;
pub mod panics;
pub mod publisher;
pub mod retry;
pub mod schedule;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;

/// JSON text that is carried through unparsed: a payload, a result, a client's metadata.
pub type RawJson = Box<serde_json::value::RawValue>;
