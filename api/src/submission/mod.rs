//! From a JSON body to a job: every field is checked, and everything that is wrong is reported together.

mod fields;
mod text;

use std::time::Duration;

use chrono::{DateTime, Utc};
use offload_common::RawJson;
use offload_common::config::JobsConfig;
use offload_common::job::{Job, JobId, Lane, NewJob, Priority};
use offload_common::kind::KindSpec;
use serde_json::Value;

use crate::catalog::Known;
use crate::json_body::JsonBody;
use crate::problem::{FieldError, Problem};
use crate::request::{RequestInfo, TENANT};
use fields::{Fields, pointer};

/// Every field that a submission may have.
pub(crate) const FIELDS: [&str; 10] = [
    "kind",
    "payload",
    "queue",
    "priority",
    "run_at",
    "delay_seconds",
    "max_attempts",
    "timeout_seconds",
    "metadata",
    "tags",
];

/// Attempts at most.
pub(crate) const MAX_ATTEMPTS: u64 = 100;
/// The longest delay, in seconds: ten years.
pub(crate) const MAX_DELAY_SECONDS: f64 = 315_360_000.0;
/// Tags at most, and characters in each.
pub(crate) const MAX_TAGS: usize = 16;
pub(crate) const MAX_TAG_CHARS: usize = 64;
/// The longest metadata, in bytes as sent.
pub(crate) const MAX_METADATA_BYTES: usize = 16 << 10;

/// A detail is cut to this many characters: it may quote the value that it is about.
const MAX_DETAIL_CHARS: usize = 300;

/// A valid submission, with its kind's defaults filled in.
#[derive(Debug)]
pub(crate) struct Submission {
    kind: String,
    lane: Lane,
    payload: RawJson,
    run_at: Option<DateTime<Utc>>,
    delay: Option<Duration>,
    max_attempts: u32,
    timeout: Duration,
    metadata: Option<RawJson>,
    tags: Vec<String>,
    retry_of: Option<JobId>,
}

/// The kind that a body names, if it names one.
pub(crate) fn kind_of(body: &JsonBody) -> &str {
    body.value.get("kind").and_then(Value::as_str).unwrap_or_default()
}

impl Submission {
    /// Checks a body against the known kinds and queues and the operator's limits.
    pub(crate) fn read(
        body: &JsonBody,
        known: &Known,
        queues: &[String],
        limits: &JobsConfig,
    ) -> Result<Self, Problem> {
        let Some(object) = body.value.as_object() else {
            return Err(Problem::validation(vec![FieldError::at("", "must be an object")]));
        };
        let members = body.members();
        let mut fields = Fields::new(object, &members, &FIELDS);
        let spec = read_kind(&mut fields, known);
        read_payload(&mut fields, known, spec);
        let lane = Lane {
            queue: read_queue(&mut fields, queues, spec),
            priority: fields.parse::<Priority>("priority").unwrap_or_default(),
        };
        let (run_at, delay) = read_time(&mut fields);
        let max_attempts = fields.integer("max_attempts", 1, MAX_ATTEMPTS);
        let timeout = fields.integer("timeout_seconds", 1, limits.max_timeout_seconds);
        let tags = fields.texts("tags", MAX_TAGS, MAX_TAG_CHARS);
        if fields.object("metadata") && fields.raw("metadata").is_some_and(|raw| raw.len() > MAX_METADATA_BYTES) {
            fields.error("metadata", format!("must not be longer than {MAX_METADATA_BYTES} bytes"));
        }
        text::find_nul(&body.value, &mut fields.errors);

        let (payload, metadata) = (fields.raw_json("payload"), fields.raw_json("metadata"));
        let (Some(spec), Some(payload), true) = (spec, payload, fields.errors.is_empty()) else {
            return Err(Problem::validation(fields.errors));
        };
        Ok(Self {
            kind: spec.name.clone(),
            lane,
            payload,
            run_at,
            delay,
            max_attempts: max_attempts.and_then(|n| n.try_into().ok()).unwrap_or(spec.max_attempts),
            timeout: Duration::from_secs(timeout.unwrap_or(spec.timeout_seconds)),
            metadata,
            tags,
            retry_of: None,
        })
    }

    /// The same job again.
    pub(crate) fn again(job: Job) -> Self {
        Self {
            kind: job.kind,
            lane: job.lane,
            payload: job.payload,
            run_at: None,
            delay: None,
            max_attempts: job.max_attempts,
            timeout: job.timeout,
            metadata: job.metadata,
            tags: job.tags,
            retry_of: Some(job.id),
        }
    }

    /// Where it queues.
    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The job to store. `admit` is the valve's word.
    pub(crate) fn into_job(self, request: &RequestInfo, limits: &JobsConfig, admit: bool) -> NewJob {
        NewJob {
            id: JobId::new(),
            tenant: TENANT.to_owned(),
            kind: self.kind,
            lane: self.lane,
            payload: self.payload,
            run_at: self.run_at,
            delay: self.delay,
            admit,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry_policy: limits.retry,
            metadata: self.metadata,
            tags: self.tags,
            traceparent: Some(request.traceparent.clone()),
            retry_of: self.retry_of,
            fired_by: None,
            idempotency: None,
        }
    }
}

fn read_kind<'k>(fields: &mut Fields<'_>, known: &'k Known) -> Option<&'k KindSpec> {
    let name = fields.required("kind").then(|| fields.text("kind")).flatten()?;
    let spec = known.kinds.get(name);
    if spec.is_none() {
        fields.error("kind", cut(format!("`{name}` is not a known kind; the kinds are {}", known.names())));
    }
    spec
}

fn read_payload(fields: &mut Fields<'_>, known: &Known, spec: Option<&KindSpec>) {
    if !fields.present("payload") {
        fields.error("payload", "is required");
    } else if let (Some(spec), Some(payload)) = (spec, fields.value("payload")) {
        for violation in known.kinds.violations(&spec.name, payload).unwrap_or_default() {
            fields.errors.push(FieldError::at(format!("/payload{}", violation.pointer), cut(violation.detail)));
        }
    }
}

fn read_queue(fields: &mut Fields<'_>, queues: &[String], spec: Option<&KindSpec>) -> String {
    let default = spec.map_or("default", |spec| &spec.queue);
    match fields.text("queue") {
        Some(queue) if queue == default || queues.iter().any(|known| known == queue) => queue.to_owned(),
        Some(queue) => {
            fields.error("queue", cut(format!("`{queue}` is not a known queue; the queues are {}", queues.join(", "))));
            default.to_owned()
        }
        None => default.to_owned(),
    }
}

fn read_time(fields: &mut Fields<'_>) -> (Option<DateTime<Utc>>, Option<Duration>) {
    let run_at = fields.time("run_at");
    let delay = fields.number("delay_seconds", 0.0, MAX_DELAY_SECONDS).map(Duration::from_secs_f64);
    if run_at.is_some() && delay.is_some() {
        fields.error("delay_seconds", "and run_at exclude each other");
    }
    (run_at, delay)
}

fn cut(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}
