//! The black-box suites: the real binary, over HTTP, in both ways of running. One crate, so that it is linked once.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bad_input;
mod batches;
mod callbacks;
mod chains;
mod faults;
mod http_contract;
mod live;
mod load;
mod schedules;
mod shutdown;
mod starting;
mod submit_to_done;
mod support;
mod verify;
