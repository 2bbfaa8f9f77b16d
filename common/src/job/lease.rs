//! The lease: a worker's right to finish one run of a job, with its fencing token.

use serde::{Deserialize, Serialize};

use super::{JobId, WorkerId};

/// Counts the hand-overs of a job. Every transition names the epoch it saw and adds one, so an equal
/// epoch proves that nothing changed hands.
pub type Epoch = i64;

/// A random number drawn per run. Where a reply was lost, it tells "my write arrived" from "somebody else's did".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nonce(pub i64);

impl Nonce {
    /// A fresh one.
    #[must_use]
    pub fn new() -> Self {
        Self(rand::random())
    }
}

impl Default for Nonce {
    fn default() -> Self {
        Self::new()
    }
}

/// A run of a job by a worker. A run starts *lazily* on a `queued` row (`claimed` is false: the row still says
/// `queued` at `epoch`) or holds a claimed, `running` row. Every write that it leads to names `job` and `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The epoch that the row has while this lease is good.
    pub epoch: Epoch,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// This run's nonce, written by its claim and by its finish.
    pub nonce: Nonce,
    /// Whether the row says `running` for this lease; else it says `queued`.
    pub claimed: bool,
}
