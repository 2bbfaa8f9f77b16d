//! From a JSON body to a job: every field is checked, and everything that is wrong is reported together.

mod after;
pub(crate) mod callback;
mod fields;
pub(crate) mod metadata;
pub(crate) mod schedule;
pub(crate) mod template;
mod text;

use std::time::Duration;

use chrono::{DateTime, Utc};
use offload_common::RawJson;
use offload_common::callback::{Callback, Event};
use offload_common::config::JobsConfig;
use offload_common::job::{Job, JobId, Lane, NewJob, OnConflict, Priority, UniqueKey};
use offload_common::kind::KindSpec;
use offload_common::schedule::JobTemplate;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::catalog::Known;
use crate::json_body::JsonBody;
use crate::problem::{FieldError, Problem};
use crate::request::{RequestInfo, TENANT};
pub(crate) use after::{MAX_REF_CHARS, Names, Order, unknown};
pub(crate) use fields::Defaults;
use fields::Fields;
pub(crate) use fields::pointer;

/// Every field that a submission may have.
pub(crate) const FIELDS: [&str; 16] = [
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
    "callback",
    "unique_key",
    "on_conflict",
    "ref",
    "after",
    "after_policy",
];

/// The answer's header that tells that its job had the unique key already.
pub(crate) const UNIQUE_KEY_MATCHED: &str = "unique-key-matched";

/// Attempts at most.
pub(crate) const MAX_ATTEMPTS: u64 = 100;
/// The longest delay, in seconds: ten years.
pub(crate) const MAX_DELAY_SECONDS: f64 = 315_360_000.0;
/// Tags at most, and characters in each.
pub(crate) const MAX_TAGS: usize = 16;
pub(crate) const MAX_TAG_CHARS: usize = 64;
/// The longest unique key, in characters.
pub(crate) const MAX_UNIQUE_KEY_CHARS: usize = 200;
/// The longest metadata, in bytes as sent.
pub(crate) const MAX_METADATA_BYTES: usize = 16 << 10;

/// A detail is cut to this many characters: it may quote the value that it is about.
const MAX_DETAIL_CHARS: usize = 300;

/// A valid submission, with its kind's defaults filled in.
#[derive(Debug, Serialize, Deserialize)]
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
    callback: Option<Callback>,
    unique: Option<UniqueKey>,
    order: Order,
    retry_of: Option<JobId>,
}

/// What submissions are held against.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The kinds.
    pub(crate) known: &'a Known,
    /// The queues that may be named.
    pub(crate) queues: &'a [String],
    /// The operator's limits.
    pub(crate) limits: &'a JobsConfig,
    /// Whether a callback may do without a secret of its own.
    pub(crate) signs: bool,
}

/// What a submission says beside its kind, its payload and its metadata.
struct Options {
    lane: Lane,
    run_at: Option<DateTime<Utc>>,
    delay: Option<Duration>,
    max_attempts: Option<u32>,
    timeout: Option<u64>,
    tags: Vec<String>,
    callback: Option<Callback>,
    unique: Option<UniqueKey>,
    order: Order,
}

impl Options {
    fn read(fields: &mut Fields<'_>, rules: &Rules<'_>, spec: Option<&KindSpec>) -> Self {
        let lane = Lane {
            queue: read_queue(fields, rules.queues, spec),
            priority: fields.parse::<Priority>("priority").unwrap_or_default(),
        };
        let (run_at, delay) = read_time(fields);
        let max_attempts = fields.integer("max_attempts", 1, MAX_ATTEMPTS).and_then(|n| n.try_into().ok());
        let timeout = fields.integer("timeout_seconds", 1, rules.limits.max_timeout_seconds);
        let tags = fields.texts("tags", MAX_TAGS, MAX_TAG_CHARS);
        if fields.object("metadata") && fields.raw("metadata").is_some_and(|raw| raw.len() > MAX_METADATA_BYTES) {
            fields.error("metadata", format!("must not be longer than {MAX_METADATA_BYTES} bytes"));
        }
        let callback = fields.given("callback").map(|given| callback::read(given, &Event::OF_JOBS, rules.signs));
        let callback = callback.and_then(|read| {
            read.map_err(|errors| fields.errors.extend(errors.into_iter().map(|e| e.within(None, "/callback")))).ok()
        });
        let unique = read_unique(fields);
        let order = Order::read(fields);
        if unique.is_some() && order.is_any() {
            let detail = "a job with a unique key may be left out for another one: it takes neither `ref` nor `after`";
            fields.error("unique_key", detail);
        }
        Self { lane, run_at, delay, max_attempts, timeout, tags, callback, unique, order }
    }
}

/// The kind that a body names, if it names one.
pub(crate) fn kind_of(body: &JsonBody) -> &str {
    body.value.get("kind").and_then(Value::as_str).unwrap_or_default()
}

impl Submission {
    /// Checks a body against the known kinds and queues and the operator's limits.
    pub(crate) fn read(body: &JsonBody, rules: &Rules<'_>) -> Result<Self, Problem> {
        let submission = Self::check(body, rules, &Defaults::default()).map_err(Problem::validation)?;
        // Whether the ids stand for jobs is for the store to say.
        let errors = submission.order.check(|_| false, |_| false);
        if errors.is_empty() { Ok(submission) } else { Err(Problem::validation(errors)) }
    }

    /// The same, with what stands for fields that are not there. Answers everything that is wrong.
    pub(crate) fn check(body: &JsonBody, rules: &Rules<'_>, defaults: &Defaults) -> Result<Self, Vec<FieldError>> {
        let Some(object) = body.value.as_object() else {
            return Err(vec![FieldError::at("", "must be an object")]);
        };
        let members = body.members();
        let mut fields = Fields::new(object, &members, &FIELDS, defaults);
        let spec = read_kind(&mut fields, rules.known);
        read_payload(&mut fields, rules.known, spec);
        let options = Options::read(&mut fields, rules, spec);
        text::find_nul(&body.value, &mut fields.errors);

        let (payload, metadata) = (fields.raw_json("payload"), fields.raw_json("metadata"));
        let (Some(spec), Some(payload), true) = (spec, payload, fields.errors.is_empty()) else {
            return Err(fields.errors);
        };
        Ok(Self {
            kind: spec.name.clone(),
            lane: options.lane,
            payload,
            run_at: options.run_at,
            delay: options.delay,
            max_attempts: options.max_attempts.unwrap_or(spec.max_attempts),
            timeout: Duration::from_secs(options.timeout.unwrap_or(spec.timeout_seconds)),
            metadata,
            tags: options.tags,
            callback: options.callback,
            unique: options.unique,
            order: options.order,
            retry_of: None,
        })
    }

    /// What is wrong with defaults by themselves, so that it is said once and not of every job.
    pub(crate) fn check_defaults(defaults: &Defaults, rules: &Rules<'_>) -> Vec<FieldError> {
        let none = Map::new();
        let members: Vec<_> = defaults.object().keys().map(|name| (name.as_str().into(), RawValue::NULL)).collect();
        let unknown = Defaults::default();
        let mut errors = Fields::new(&none, &members, &FIELDS, &unknown).errors;
        let mut fields = Fields::new(&none, &[], &FIELDS, defaults);
        let spec = if fields.present("kind") { read_kind(&mut fields, rules.known) } else { None };
        if fields.present("payload") {
            read_payload(&mut fields, rules.known, spec);
        }
        Options::read(&mut fields, rules, spec);
        errors.append(&mut fields.errors);
        text::find_nul(&Value::Object(defaults.object().clone()), &mut errors);
        errors
    }

    /// The same job again. Another one that has its unique key by now is not the answer, and is not replaced.
    pub(crate) fn again(job: Job, callback: Option<Callback>) -> Self {
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
            callback,
            unique: job.unique_key.map(|key| UniqueKey { key, on_conflict: OnConflict::Refuse }),
            order: Order::default(),
            retry_of: Some(job.id),
        }
    }

    /// What a schedule submits again and again, with the payload and the unique key as they were written.
    fn into_template(self, payload: RawJson, unique_key: Option<String>, limits: &JobsConfig) -> JobTemplate {
        JobTemplate {
            kind: self.kind,
            queue: self.lane.queue,
            priority: self.lane.priority,
            payload,
            max_attempts: self.max_attempts,
            timeout_seconds: self.timeout.as_secs(),
            retry_policy: limits.retry,
            metadata: self.metadata,
            tags: self.tags,
            callback: self.callback,
            unique_key: self.unique.and(unique_key),
        }
    }

    /// The key that no other live job of its kind is to have.
    pub(crate) fn unique(&self) -> Option<&UniqueKey> {
        self.unique.as_ref()
    }

    /// Where it queues.
    pub(crate) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Its place among others.
    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// The job to store. `admit` is the valve's word; `names` are those of the jobs before it in the same request.
    pub(crate) fn into_job(self, request: &RequestInfo, limits: &JobsConfig, admit: bool, names: &mut Names) -> NewJob {
        let id = JobId::new();
        let after = self.order.settle(id, names);
        NewJob {
            id,
            tenant: TENANT.to_owned(),
            kind: self.kind,
            lane: self.lane,
            payload: self.payload,
            run_at: self.run_at,
            delay: self.delay,
            admit: admit && after.is_none(),
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            retry_policy: limits.retry,
            metadata: self.metadata,
            tags: self.tags,
            traceparent: Some(request.traceparent.clone()),
            retry_of: self.retry_of,
            fired_by: None,
            idempotency: None,
            callback: self.callback,
            unique: self.unique,
            after,
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

fn read_unique(fields: &mut Fields<'_>) -> Option<UniqueKey> {
    let on_conflict = fields.parse::<OnConflict>("on_conflict");
    let Some(key) = fields.text("unique_key") else {
        if on_conflict.is_some() && fields.is_own("on_conflict") && !fields.present("unique_key") {
            fields.error("on_conflict", "says what becomes of a job whose unique_key is taken; give a unique_key");
        }
        return None;
    };
    if !(1..=MAX_UNIQUE_KEY_CHARS).contains(&key.chars().count()) {
        fields.error("unique_key", format!("must be a string of 1 to {MAX_UNIQUE_KEY_CHARS} characters"));
    }
    Some(UniqueKey { key: key.to_owned(), on_conflict: on_conflict.unwrap_or_default() })
}

fn cut(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL_CHARS) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}
