//! Workers and their kinds, as the store knows them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::job::{JobId, WorkerId};
use crate::kind::KindSpec;

/// A kind that workers registered, ever.
#[derive(Clone, Debug)]
pub struct RegisteredKind {
    /// The latest registration.
    pub spec: KindSpec,
    /// Whether a live worker offers it.
    pub live: bool,
}

/// What a worker process says of itself.
#[derive(Clone, Debug)]
pub struct WorkerInfo {
    /// The host's name.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The kinds it offers.
    pub kinds: Vec<KindSpec>,
}

/// A worker as others see it.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its id.
    pub id: WorkerId,
    /// What it said of itself; `kinds` are names here.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The queues it serves.
    pub queues: Vec<String>,
    /// The names of the kinds it offers.
    pub kinds: Vec<String>,
    /// When it joined.
    pub started_at: DateTime<Utc>,
    /// Its last beat.
    pub beat_at: DateTime<Utc>,
    /// The claimed jobs it holds.
    pub running: u64,
}

/// What a beat answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Still a member. These of its running jobs are to be cancelled.
    Alive {
        /// Jobs of this worker with `cancel_requested`.
        cancel: Vec<JobId>,
    },
    /// It was taken for dead: stop the handlers and join again under a new id.
    Fenced,
}

/// What stealing looks for.
#[derive(Clone, Debug)]
pub struct Steal {
    /// Who takes them.
    pub worker: WorkerId,
    /// Only from these queues.
    pub queues: Vec<String>,
    /// Only these kinds.
    pub kinds: Vec<String>,
    /// Only rows that have been queued for longer than this; `None`: only those that lost a worker.
    pub older_than: Option<Duration>,
    /// Rows that lost a worker need to have been queued for longer than this only.
    pub lost_older_than: Duration,
    /// Whether a suspect may be among them ([`Candidate::is_suspect`]); at most one is. A process runs one at a time.
    pub suspects: bool,
    /// At most this many.
    pub limit: u32,
}
