//! From the submission to the result: what a client can do, and what it sees.

mod cancelling;
mod idempotency;
mod kinds;
mod life;
mod lists;
mod unique;

use crate::support::{Backend, Stack, StackBuilder};

/// What these suites run on: two slots, so that what waits for a slot can be tested.
async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).with("OFFLOAD_WORKER__SLOTS", "2").start().await
}
