//! The conformance suites of the ports, and what tests need to make things fail.

mod proxy;

pub use proxy::Proxy;
