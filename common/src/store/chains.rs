//! Chains: jobs that run after others.

use async_trait::async_trait;

use super::Result;
use crate::RawJson;
use crate::job::{ErrorInfo, JobId, State};

/// What became of the parent of a job.
#[derive(Clone, Debug)]
pub struct ParentEnd {
    /// The parent.
    pub job: JobId,
    /// The state that it ended in.
    pub state: State,
    /// What it came to, if it succeeded.
    pub result: Option<RawJson>,
    /// Why it did not.
    pub error: Option<ErrorInfo>,
    /// Whether the result or the error was left out: with those before it, there would be too much.
    pub left_out: bool,
}

/// What a [`Chains::release`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// So many jobs wait no more: promotion brings them in.
    pub proceeded: u64,
    /// These are cancelled, since a parent did not succeed.
    pub cancelled: Vec<JobId>,
    /// There may be more to do.
    pub more: bool,
}

/// What a store does with jobs that run after others.
///
/// A job that is accepted with parents waits until it is released. The rows of its parents say that they are followed, so
/// that whatever ends one notes that in the same transaction.
#[async_trait]
pub trait Chains {
    /// Which of these jobs there are none of.
    async fn unknown(&self, tenant: &str, jobs: &[JobId]) -> Result<Vec<JobId>>;

    /// Tells jobs that wait of the ends of their parents, at most `limit` of them: one that has heard of all proceeds, and one
    /// that takes it so is cancelled with the first that did not succeed. A row that somebody holds locked is left to a later call.
    async fn release(&self, limit: u32) -> Result<Released>;

    /// What became of a job's parents, in the order that they were given, with results and errors of up to `bytes` in all.
    async fn parents(&self, job: JobId, bytes: u64) -> Result<Vec<ParentEnd>>;
}
