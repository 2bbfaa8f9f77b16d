//! From the body of a request to the jobs of a batch: read as it arrives, checked line by line, kept aside until all of it is
//! there, and then written in one transaction, so that no transaction waits for a slow client.

mod gather;
mod header;
mod lines;
mod order;
mod spool;
mod view;
mod watch;

pub(crate) use gather::{Gathered, Source, gather};
pub(crate) use header::Scope;
pub(crate) use view::BatchView;
pub(crate) use watch::{BatchWatches, Mark, Watching};

/// Jobs that one request may have.
pub(crate) const MAX_JOBS: u64 = 1_000_000;

/// Jobs with unique keys that one request may have: they are gone through at once, in memory.
pub(crate) const MAX_UNIQUE: u64 = 100_000;

/// Where a batch is.
pub(crate) fn batch_path(id: offload_common::job::BatchId) -> String {
    format!("/v1/batches/{id}")
}
