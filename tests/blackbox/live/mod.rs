//! Following jobs as they happen.

mod faults;
mod many;
mod socket;
mod story;
