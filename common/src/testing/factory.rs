//! Ordinary values for tests, to be varied by struct update: `NewJob { max_attempts: 1, ..factory::job() }`.

use std::time::Duration;

use serde_json::json;

use crate::RawJson;
use crate::clock;
use crate::job::{FileId, JobId, Lane, NewJob, Priority, Progress};
use crate::kind::{Effects, KindSpec};
use crate::retry::RetryPolicy;
use crate::schedule::{Definition, JobTemplate, Missed, Overlap, Recurrence, Template};
use crate::store::{FileRecord, IdempotencyKey, JobFilter, Saying, Utterance, WorkerInfo};

/// The tenant of everything that a factory makes.
pub const TENANT: &str = "default";

/// The kind of the jobs that [`job`] makes.
pub const KIND: &str = "test.kind";

/// JSON text as it is, spaces included.
///
/// # Panics
/// If it is not JSON.
#[must_use]
pub fn raw(json: &str) -> RawJson {
    serde_json::from_str(json).expect("the test's JSON is JSON")
}

/// The normal lane of a queue.
#[must_use]
pub fn lane(queue: &str) -> Lane {
    Lane { queue: queue.to_owned(), priority: Priority::Normal }
}

/// A job that is due now and admitted.
#[must_use]
pub fn job() -> NewJob {
    NewJob {
        id: JobId::new(),
        tenant: TENANT.to_owned(),
        kind: KIND.to_owned(),
        lane: lane("default"),
        payload: raw(r#"{"value":1}"#),
        run_at: None,
        delay: None,
        admit: true,
        max_attempts: 5,
        timeout: Duration::from_secs(60),
        retry_policy: RetryPolicy::default(),
        metadata: None,
        tags: Vec::new(),
        traceparent: None,
        retry_of: None,
        fired_by: None,
        idempotency: None,
        callback: None,
        unique: None,
        after: None,
    }
}

/// As many such jobs as asked for, in the order of their ids.
#[must_use]
pub fn jobs(count: usize) -> Vec<NewJob> {
    (0..count).map(|_| job()).collect()
}

/// An idempotency key; the same `body` gives the same fingerprint.
#[must_use]
pub fn idempotency(key: &str, body: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: key.to_owned(), fingerprint: [body; 32] })
}

/// A kind that takes any payload.
#[must_use]
pub fn kind(name: &str) -> KindSpec {
    KindSpec {
        name: name.to_owned(),
        description: "A kind for tests.".to_owned(),
        payload_schema: json!({"type": "object"}),
        result_schema: json!(true),
        queue: "default".to_owned(),
        max_attempts: 5,
        timeout_seconds: 60,
        effects: Effects::Repeatable,
    }
}

/// A worker that offers these kinds.
#[must_use]
pub fn worker(kinds: &[&str]) -> WorkerInfo {
    WorkerInfo {
        host: "test-host".to_owned(),
        pid: std::process::id(),
        version: "1.2.3".to_owned(),
        slots: 8,
        queues: vec!["default".to_owned()],
        kinds: kinds.iter().map(|name| kind(name)).collect(),
    }
}

/// Such a job, as a schedule submits it.
#[must_use]
pub fn template() -> JobTemplate {
    JobTemplate {
        kind: KIND.to_owned(),
        queue: "default".to_owned(),
        priority: Priority::Normal,
        payload: raw(r#"{"value":1}"#),
        max_attempts: 5,
        timeout_seconds: 60,
        retry_policy: RetryPolicy::default(),
        metadata: None,
        tags: Vec::new(),
        callback: None,
        unique_key: None,
    }
}

/// What a schedule does that submits such a job every hour.
#[must_use]
pub fn definition() -> Definition {
    Definition {
        recurrence: Recurrence::EverySeconds(3600),
        time_zone: "UTC".to_owned(),
        starts_at: None,
        ends_at: None,
        jitter_seconds: 0.0,
        missed: Missed::One,
        max_missed: 100,
        overlap: Overlap::Skip,
        template: Template::Job(template()),
    }
}

/// A line that a handler wrote, as the `n`th that it said.
#[must_use]
pub fn line(n: u32, message: &str) -> Utterance {
    Utterance { n, at: clock::now(), what: Saying::Line { level: "info", message: message.to_owned() } }
}

/// How far a handler said that it has come, as the `n`th that it said.
#[must_use]
pub fn progress(n: u32, fraction: f64, message: Option<&str>) -> Utterance {
    let progress = Progress { fraction, message: message.map(str::to_owned) };
    Utterance { n, at: clock::now(), what: Saying::Progress(progress) }
}

/// The record of a small text file.
#[must_use]
pub fn file() -> FileRecord {
    FileRecord {
        id: FileId::new(),
        tenant: TENANT.to_owned(),
        content_type: "text/plain; charset=utf-8".to_owned(),
        bytes: 5,
        sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824".to_owned(),
        created_at: clock::now(),
    }
}

/// Every job of the tenant, up to 1,000.
#[must_use]
pub fn filter() -> JobFilter {
    JobFilter { tenant: TENANT.to_owned(), limit: 1000, ..JobFilter::default() }
}
