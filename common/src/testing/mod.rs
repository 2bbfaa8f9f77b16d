//! The conformance suites of the ports, and what tests of every crate build on.

pub mod broker_conformance;
pub mod database;
mod eventually;
pub mod factory;
mod proxy;
pub mod store;

pub use eventually::{eventually, within};
pub use proxy::Proxy;
