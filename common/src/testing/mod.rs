//! The conformance suites of the ports, and what tests need to make things fail.

pub mod broker_conformance;
mod proxy;

pub use proxy::Proxy;
