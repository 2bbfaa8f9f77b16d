//! What a schedule is to submit: a job, or a batch. It is checked with its placeholders filled in, and kept as it was written.

use offload_common::RawJson;
use offload_common::callback::Event;
use offload_common::schedule::template::{self, Filling};
use offload_common::schedule::{BatchTemplate, JobTemplate, MAX_BATCH_JOBS, Template};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::fields::{Defaults, Fields, pointer};
use super::schedule::Rules;
use super::{Submission, callback, metadata};
use crate::json_body::JsonBody;
use crate::problem::FieldError;

/// Every field that the job of a schedule may have: a schedule says itself when that runs. Those of a batch leave the last out.
const JOB_FIELDS: [&str; 10] = [
    "kind",
    "payload",
    "queue",
    "priority",
    "max_attempts",
    "timeout_seconds",
    "metadata",
    "tags",
    "callback",
    "unique_key",
];

/// Every field that the batch of a schedule may have.
const BATCH_FIELDS: [&str; 5] = ["defaults", "jobs", "follow_up", "callback", "metadata"];

type Wrong = Vec<FieldError>;

/// Every kind that a schedule's body names.
pub(crate) fn kinds_of(body: &JsonBody) -> Vec<&str> {
    let at = |pointer| body.value.pointer(pointer);
    let jobs = at("/batch/jobs").and_then(Value::as_array).into_iter().flatten();
    let alone = [at("/job"), at("/batch/defaults"), at("/batch/follow_up")].into_iter().flatten();
    jobs.chain(alone).filter_map(|job| job.get("kind")?.as_str()).collect()
}

/// Reads the fields `job` and `batch`. One that is mentioned takes the place of what is there `before`.
pub(super) fn read(
    fields: &mut Fields<'_>,
    before: Option<&Template>,
    filling: Filling<'_>,
    rules: Rules<'_>,
) -> Option<Template> {
    let name = match (fields.given("job").is_some(), fields.given("batch").is_some()) {
        (true, true) => {
            fields.error("batch", "and job exclude each other");
            return None;
        }
        (true, false) => "job",
        (false, true) => "batch",
        (false, false) => {
            let name = if matches!(before, Some(Template::Batch { .. })) { "batch" } else { "job" };
            let kept = before.filter(|_| !fields.present(name)).cloned();
            if kept.is_none() {
                fields.error(name, "is required: job or batch");
            }
            return kept;
        }
    };
    if !fields.object(name) {
        return None;
    }
    let body = part(fields.raw(name)?)?;
    let reader = Reader { filling, rules };
    let read = match name {
        "job" => reader.job(&body, &JOB_FIELDS, &Common::default()).map(Template::Job),
        _ => reader.batch(&body).map(|batch| Template::Batch { batch }),
    };
    read.map_err(|wrong| fields.errors.extend(below(format!("/{name}"), wrong))).ok()
}

struct Reader<'a> {
    filling: Filling<'a>,
    rules: Rules<'a>,
}

/// What stands for fields that the jobs of a batch do not give: as of one fire, and the payload as it was written.
#[derive(Default)]
struct Common {
    defaults: Defaults,
    payload: Option<RawJson>,
}

/// The body of a job as of one fire, and what it was like before that.
struct Filled {
    body: JsonBody,
    payload: Option<RawJson>,
    unique_key: Option<String>,
}

impl Reader<'_> {
    fn rules(&self) -> super::Rules<'_> {
        let Rules { known, queues, limits, signs, .. } = self.rules;
        super::Rules { known, queues, limits, signs }
    }

    fn job(&self, written: &JsonBody, known: &[&str], common: &Common) -> Result<JobTemplate, Wrong> {
        if !written.value.is_object() {
            return Err(vec![FieldError::at("", "must be an object")]);
        }
        let mut wrong = Vec::new();
        let filled = self.fill(written, known, &mut wrong);
        let checked = Submission::check(&filled.body, &self.rules(), &common.defaults);
        let submission = checked.map_err(|more| wrong.extend(more)).ok();
        let payload = filled.payload.or_else(|| common.payload.clone());
        match (submission, payload) {
            (Some(submission), Some(payload)) if wrong.is_empty() => {
                Ok(submission.into_template(payload, filled.unique_key, self.rules.limits))
            }
            _ => Err(wrong),
        }
    }

    fn batch(&self, body: &JsonBody) -> Result<BatchTemplate, Wrong> {
        let (mut wrong, members) = (Vec::new(), body.members());
        let object = body.value.as_object().cloned().unwrap_or_default();
        let none = Defaults::default();
        let mut fields = Fields::new(&object, &members, &BATCH_FIELDS, &none);
        let common = match fields.given("defaults").and_then(|_| part(fields.raw("defaults")?)) {
            Some(defaults) => self.common(&defaults).map_err(|more| wrong.extend(below("/defaults".into(), more))).ok(),
            None => Some(Common::default()),
        };
        // What is wrong with the defaults is said once, and not of every job.
        let common = common.unwrap_or_default();
        let jobs = self.jobs(&mut fields, &common, wrong.is_empty());
        let follow_up = fields.given("follow_up").and_then(|_| part(fields.raw("follow_up")?));
        let follow_up = follow_up.map(|body| self.job(&body, &of_batches(), &Common::default()));
        let follow_up = follow_up.transpose().map_err(|more| wrong.extend(below("/follow_up".into(), more)));
        let callback =
            fields.given("callback").map(|given| callback::read(given, &Event::OF_BATCHES, self.rules.signs));
        let callback = callback.transpose().map_err(|more| wrong.extend(below("/callback".into(), more)));
        let metadata = fields.given("metadata").and_then(|value| Some((value, fields.raw_json("metadata")?)));
        let metadata = metadata.map(|(value, raw)| metadata::read(value, &raw));
        let metadata = metadata.transpose().map_err(|detail| wrong.push(FieldError::at("/metadata", detail)));
        wrong.extend(fields.errors);
        match (jobs, follow_up, callback, metadata) {
            (Some(jobs), Ok(follow_up), Ok(callback), Ok(metadata)) if wrong.is_empty() => {
                Ok(BatchTemplate { jobs, follow_up, callback, metadata })
            }
            _ => Err(wrong),
        }
    }

    fn common(&self, written: &JsonBody) -> Result<Common, Wrong> {
        if !written.value.is_object() {
            return Err(vec![FieldError::at("", "must be an object")]);
        }
        let mut wrong = Vec::new();
        let filled = self.fill(written, &of_batches(), &mut wrong);
        // What is not given is no default.
        let object = filled.body.value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let object: Map<String, Value> = object.map(|(name, value)| (name.clone(), value.clone())).collect();
        let payload = filled.payload.filter(|_| object.contains_key("payload"));
        let defaults = Defaults::new(object, &filled.body.members());
        wrong.extend(Submission::check_defaults(&defaults, &self.rules()));
        if wrong.is_empty() { Ok(Common { defaults, payload }) } else { Err(wrong) }
    }

    fn jobs(&self, fields: &mut Fields<'_>, common: &Common, check: bool) -> Option<Vec<JobTemplate>> {
        if !fields.required("jobs") {
            return None;
        }
        let Ok(jobs) = serde_json::from_str::<Vec<&RawValue>>(fields.raw("jobs")?) else {
            fields.error("jobs", "must be an array");
            return None;
        };
        if !(1..=MAX_BATCH_JOBS).contains(&jobs.len()) {
            fields.error("jobs", format!("must have 1 to {MAX_BATCH_JOBS} jobs; it has {}", jobs.len()));
            return None;
        }
        let mut read = Vec::with_capacity(jobs.len());
        for (n, raw) in jobs.into_iter().enumerate().filter(|_| check) {
            match self.job(&part(raw.get())?, &of_batches(), common) {
                Ok(job) => read.push(job),
                Err(wrong) => fields.errors.extend(below(format!("/jobs/{n}"), wrong)),
            }
        }
        Some(read)
    }

    fn fill(&self, written: &JsonBody, known: &[&str], wrong: &mut Wrong) -> Filled {
        let (mut payload, mut unique_key) = (None, None);
        let mut filled = String::from("{");
        for (name, raw) in written.members() {
            if !known.contains(&name.as_ref()) {
                let detail = match name.as_ref() {
                    "run_at" | "delay_seconds" => "must not be given: the schedule says when it runs".to_owned(),
                    _ => format!("is not a field of such a job; the fields are {}", known.join(", ")),
                };
                wrong.push(FieldError::at(pointer("", &name), detail));
                continue;
            }
            let mut value = raw.to_owned();
            if ["payload", "unique_key"].contains(&name.as_ref()) {
                if let Err(unknown) = template::check(raw.get()) {
                    wrong.push(FieldError::at(pointer("", &name), unknown.to_string()));
                }
                value = template::fill(raw, &self.filling);
            }
            match name.as_ref() {
                "payload" => payload = Some(raw.to_owned()),
                "unique_key" => unique_key = serde_json::from_str(raw.get()).ok(),
                _ => {}
            }
            let Ok(name) = to_raw_value(&name) else { continue };
            if filled.len() > 1 {
                filled.push(',');
            }
            filled += &format!("{}:{}", name.get(), value.get());
        }
        filled.push('}');
        let value = serde_json::from_str(&filled).unwrap_or_default();
        Filled { body: JsonBody { bytes: filled.into(), value }, payload, unique_key }
    }
}

fn of_batches() -> [&'static str; 9] {
    let [fields @ .., _] = JOB_FIELDS;
    fields
}

fn below(base: String, errors: Wrong) -> impl Iterator<Item = FieldError> {
    errors.into_iter().map(move |error| error.within(None, &base))
}

/// A member as a document of its own.
fn part(raw: &str) -> Option<JsonBody> {
    let bytes = bytes::Bytes::copy_from_slice(raw.as_bytes());
    Some(JsonBody { value: serde_json::from_slice(&bytes).ok()?, bytes })
}
