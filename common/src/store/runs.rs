//! What a run takes and answers: reading the row, claiming, finishing, reporting.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Pointer;
use crate::RawJson;
use crate::job::transition::{self, Snapshot, Transition};
use crate::job::{Epoch, JobId, Lane, Lease, Nonce, Progress, State};
use crate::retry::RetryPolicy;

/// The row as a worker reads it right before the start.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub lane: Lane,
    /// Where it stands.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Attempts started and not handed back.
    pub attempt: u32,
    /// At most this many.
    pub max_attempts: u32,
    /// How often a worker was lost under it.
    pub losses: u32,
    /// A client wants it cancelled.
    pub cancel_requested: bool,
    /// The time that one attempt may take.
    pub timeout: Duration,
    /// How the delay between attempts grows.
    pub retry_policy: RetryPolicy,
    /// What it was submitted with.
    pub payload: RawJson,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// The W3C `traceparent` of the request.
    pub traceparent: Option<String>,
    /// Its end has consequences: a batch counts it.
    pub linked: bool,
    /// Other jobs run after it.
    pub followed: bool,
    /// It runs after other jobs.
    pub has_parents: bool,
}

impl Candidate {
    /// Whether it may be what kills workers: it lost [`transition::SUSPECT_LOSSES`] of them.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.losses >= transition::SUSPECT_LOSSES
    }

    /// What [`crate::job::transition::decide`] looks at.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.state,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            losses: self.losses,
            cancel_requested: self.cancel_requested,
            waits: false,
        }
    }
}

/// A wish to claim a queued row: `running`, `attempt + 1`, `epoch + 1`.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The epoch it was seen `queued` at.
    pub epoch: Epoch,
    /// The run's nonce.
    pub nonce: Nonce,
    /// How long the handler has been running already (a lazy claim): `started_at` lies this far back.
    pub running_for: Duration,
}

/// What became of a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The row says `running` under this lease.
    Granted(Lease),
    /// The row is not `queued` at that epoch any more: a message that said so is void.
    MovedOn,
    /// The worker was taken for dead, has left, or never joined. This call wrote nothing, and a message of the job is as
    /// good as it was; what an earlier try had claimed is reaped.
    NotAMember,
}

impl Claimed {
    /// The lease, where it was granted.
    #[must_use]
    pub fn lease(self) -> Option<Lease> {
        if let Claimed::Granted(lease) = self { Some(lease) } else { None }
    }
}

/// The end of a run.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The right to write it.
    pub lease: Lease,
    /// What was decided.
    pub transition: Transition,
    /// What it came to, for `succeeded`.
    pub result: Option<RawJson>,
    /// How long the handler ran; a lazy run's `started_at` lies this far back.
    pub ran_for: Duration,
    /// As in [`Candidate::linked`]: which way of writing it is tried first. The row knows better.
    pub linked: bool,
}

/// What became of a [`Finish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The row says so now (also when an earlier try had done it and only its reply was lost). A row that became
    /// `queued` comes with its pointer, to publish.
    Applied(Option<Pointer>),
    /// A client wants the job cancelled, and the transition was not a final one. The lease still holds: decide again.
    CancelRequested,
    /// The row has moved on: the lease was lost. Nothing was written.
    Lost,
}

/// Something that a handler said while running. Written only while its lease holds.
#[derive(Clone, Debug)]
pub struct Report {
    /// The claimed lease.
    pub lease: Lease,
    /// What it said, in order. The last progress among it becomes the job's.
    pub said: Vec<Utterance>,
}

impl Report {
    /// The last progress.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.said.iter().rev().find_map(|said| match &said.what {
            Saying::Progress(progress) => Some(progress),
            Saying::Line { .. } => None,
        })
    }
}

/// Something that a handler said, on its way to the store. Its public id is `<epoch>-<n>`, of the lease's epoch. Sent
/// again, it says the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Utterance {
    /// Its number within the run, from 1.
    pub n: u32,
    /// When the handler said it.
    pub at: DateTime<Utc>,
    /// What.
    pub what: Saying,
}

/// What a handler said.
#[derive(Clone, Debug, PartialEq)]
pub enum Saying {
    /// How far it has come.
    Progress(Progress),
    /// A line for the log.
    Line {
        /// `debug`, `info`, `warn` or `error`.
        level: &'static str,
        /// The text.
        message: String,
    },
}

impl Saying {
    /// The level of a line; progress has none.
    #[must_use]
    pub fn level(&self) -> &'static str {
        if let Saying::Line { level, .. } = self { level } else { "" }
    }

    /// The text; empty where there is none.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Saying::Progress(progress) => progress.message.as_deref().unwrap_or_default(),
            Saying::Line { message, .. } => message,
        }
    }

    /// How far it has come; a line does not say.
    #[must_use]
    pub fn fraction(&self) -> Option<f64> {
        if let Saying::Progress(progress) = self { Some(progress.fraction) } else { None }
    }
}
