//! Files, and what reaping and pruning take and answer.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Dispatch;
use crate::job::{FileId, JobId, WorkerId};

/// A stored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRecord {
    /// Its id.
    pub id: FileId,
    /// Whose it is.
    pub tenant: String,
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 over its content, in hex.
    pub sha256: String,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// When a worker counts as lost.
#[derive(Clone, Copy, Debug)]
pub struct ReapPolicy {
    /// Without a beat for this long it does. Where the store sees a process die, it does as soon as that is certain.
    pub lease: Duration,
    /// Who says so. `None` while the caller is no member: then no worker is newly marked, and only the rows of workers
    /// that are marked, left or unknown are taken.
    pub judge: Option<Judge>,
}

/// A worker that judges others. What cuts everybody off (a database that restarts, say) has cut it off as well: it knows
/// by itself how much the others' absence tells.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// Its membership.
    pub worker: WorkerId,
    /// Whether its own beats succeeded throughout the last lease. Else the silence of others tells nothing.
    pub steady: bool,
}

/// What reaping did.
#[derive(Clone, Debug, Default)]
pub struct Reaped {
    /// Workers newly found lost.
    pub workers: Vec<WorkerId>,
    /// Jobs that were queued again, to publish.
    pub requeued: Vec<Dispatch>,
    /// Jobs that came to an end.
    pub ended: Vec<JobId>,
    /// Something is about to be certain: look again soon.
    pub suspicion: bool,
    /// Rows that lost a worker have been `queued` again for a moment, and nobody has started them: whoever has room for
    /// them is to steal them.
    pub waiting: bool,
}

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Finished jobs, with their logs.
    pub jobs: Duration,
    /// Files.
    pub files: Duration,
    /// Idempotency keys.
    pub idempotency_keys: Duration,
}

/// What pruning did.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    /// Finished jobs removed (an estimate where whole partitions went).
    pub jobs: u64,
    /// Files whose rows are gone, for the caller to delete.
    pub files: Vec<FileId>,
    /// Idempotency keys removed.
    pub idempotency_keys: u64,
}
