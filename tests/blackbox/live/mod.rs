//! Following jobs as they happen.

mod batch;
mod faults;
mod list;
mod many;
mod socket;
mod story;
