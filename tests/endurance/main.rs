//! What takes too long for every run of the tests: measurements of how fast faults are got over, and faults that take their
//! time. `scripts/endurance` runs it; `cargo test` alone does not.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod broker_restarts;
mod client;
mod deploy;
mod disk_full;
mod distribution;
mod footprint;
mod long_job;
mod recovery;
mod starts;
mod streams;
#[path = "../faults/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the fault suite uses the rest of it")]
mod support;
mod wiped_broker;
