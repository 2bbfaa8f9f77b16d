//! What the worker engine does, over whatever the `backend` of the test program is.

mod attempts;
mod cancelling;
mod claims;
mod draining;
mod fencing;
mod finishing;
mod lost_messages;
mod own_faults;
mod probes;
mod reports;
mod shipped;
mod support;
mod suspects;
mod transactions;
