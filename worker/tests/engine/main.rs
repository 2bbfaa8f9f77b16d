//! The worker engine, over the embedded store and the in-process broker.

mod attempts;
mod cancelling;
mod claims;
mod draining;
mod fencing;
mod finishing;
mod lost_messages;
mod reports;
mod support;
mod suspects;
mod transactions;
