//! What a client reads of the server's answers. Fields that are not shown anywhere are left out.

use chrono::{DateTime, Utc};
use offload_common::RawJson;
use offload_common::job::{ErrorInfo, FileId, JobId, Progress, State};
use serde::Deserialize;

/// A job.
#[derive(Debug, Deserialize)]
pub(crate) struct JobView {
    /// Its id.
    pub(crate) id: JobId,
    /// Its kind's name.
    pub(crate) kind: String,
    /// The queue it is in.
    pub(crate) queue: String,
    /// Where it stands.
    pub(crate) state: State,
    /// Attempts started.
    pub(crate) attempt: u32,
    /// At most this many.
    pub(crate) max_attempts: u32,
    /// The last progress reported.
    pub(crate) progress: Option<Progress>,
    /// When it was accepted.
    pub(crate) created_at: DateTime<Utc>,
    /// When it is or was due.
    pub(crate) run_at: DateTime<Utc>,
    /// When its last attempt started.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// When it became final.
    pub(crate) finished_at: Option<DateTime<Utc>>,
    /// What it came to.
    pub(crate) result: Option<RawJson>,
    /// Its last attempt's failure.
    pub(crate) error: Option<ErrorInfo>,
    /// The jobs that it runs after.
    pub(crate) parents: Option<ParentsView>,
}

/// The jobs that a job runs after.
#[derive(Debug, Deserialize)]
pub(crate) struct ParentsView {
    /// How many they are.
    pub(crate) total: u32,
    /// How many of them it still waits for.
    pub(crate) waiting: u32,
}

/// A kind of jobs.
#[derive(Debug, Deserialize)]
pub(crate) struct KindView {
    /// Its name.
    pub(crate) name: String,
    /// One sentence for people.
    pub(crate) description: String,
    /// The queue it goes to unless told.
    pub(crate) queue: String,
    /// Whether a worker offers it now.
    pub(crate) live: bool,
}

/// A stored file.
#[derive(Debug, Deserialize)]
pub(crate) struct FileView {
    /// Its id.
    pub(crate) id: FileId,
}
