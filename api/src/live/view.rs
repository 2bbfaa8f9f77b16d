//! What clients see of an event.

use offload_common::job::{Happening, JobEvent, State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::timestamp::Timestamp;

/// Something that happened to a job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "JobEvent")]
pub(crate) struct EventView<'a> {
    /// `<epoch>-<n>`; ids are ordered as the events are, and stay the same.
    pub(crate) id: String,
    /// What kind of event it is.
    pub(crate) event: EventName,
    /// What happened.
    pub(crate) data: EventData<'a>,
}

/// The kinds of events.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "JobEventName")]
pub(crate) enum EventName {
    /// The job took a state.
    State,
    /// Its handler told how far it has come.
    Progress,
    /// Its handler wrote a line to the log.
    Log,
}

impl std::fmt::Display for EventName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EventName::State => "state",
            EventName::Progress => "progress",
            EventName::Log => "log",
        })
    }
}

/// What happened, by the kind of event.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "JobEventData")]
pub(crate) enum EventData<'a> {
    /// The job took a state.
    State {
        /// Which; after `succeeded`, `failed` and `cancelled` nothing follows.
        state: State,
        /// Attempts started so far.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// When it is due, while `scheduled`.
        #[serde(skip_serializing_if = "Option::is_none")]
        run_at: Option<Timestamp>,
        /// The failure of the attempt that led to it.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<FailureView<'a>>,
    },
    /// Its handler told how far it has come.
    Progress {
        /// 0.0 to 1.0.
        fraction: f64,
        /// What it is doing.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<&'a str>,
        /// Which attempt, from 1.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
    /// Its handler wrote a line to the log.
    Log {
        /// `debug`, `info`, `warn` or `error`.
        level: &'a str,
        /// The text.
        message: &'a str,
        /// Which attempt, from 1.
        attempt: u32,
        /// When.
        at: Timestamp,
    },
}

/// Why an attempt failed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AttemptFailure")]
pub(crate) struct FailureView<'a> {
    /// As in the job's `error`.
    code: &'a str,
    /// As in the job's `error`.
    message: &'a str,
}

impl<'a> From<&'a JobEvent> for EventView<'a> {
    fn from(happened: &'a JobEvent) -> Self {
        let (attempt, at) = (happened.attempt, happened.at.into());
        let (event, data) = match &happened.what {
            Happening::State { state, run_at, error } => {
                let error = error.as_ref().map(|(code, message)| FailureView { code, message });
                (
                    EventName::State,
                    EventData::State { state: *state, attempt, at, run_at: run_at.map(Timestamp), error },
                )
            }
            Happening::Progress(progress) => {
                let (fraction, message) = (progress.fraction, progress.message.as_deref());
                (EventName::Progress, EventData::Progress { fraction, message, attempt, at })
            }
            Happening::Log { level, message } => (EventName::Log, EventData::Log { level, message, attempt, at }),
        };
        Self { id: happened.id.to_string(), event, data }
    }
}
