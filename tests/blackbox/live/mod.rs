//! Following jobs as they happen.

mod batch;
mod faults;
mod many;
mod socket;
mod story;
