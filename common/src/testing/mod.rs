//! The conformance suites of the ports, and factories for tests.
