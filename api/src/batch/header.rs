//! What a request says of a batch as a whole.

use offload_common::RawJson;
use offload_common::callback::{Callback, Event};
use offload_common::job::JobPlan;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json_body::JsonBody;
use crate::problem::FieldError;
use crate::request::RequestInfo;
use crate::submission::{Defaults, Names, Rules, Submission, callback, metadata, pointer};

/// What may be said: of a new batch all of it, of jobs that are added to one only their defaults.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A new batch.
    New,
    /// More jobs for an open one.
    More,
}

impl Scope {
    fn fields(self) -> &'static [&'static str] {
        match self {
            Scope::New => &["defaults", "follow_up", "callback", "metadata", "sealed"],
            Scope::More => &["defaults"],
        }
    }
}

/// What was said.
pub(crate) struct Header {
    pub(crate) defaults: Defaults,
    pub(crate) follow_up: Option<JobPlan>,
    pub(crate) callback: Option<Callback>,
    pub(crate) metadata: Option<RawJson>,
    pub(crate) sealed: bool,
}

impl Default for Header {
    fn default() -> Self {
        Self { defaults: Defaults::default(), follow_up: None, callback: None, metadata: None, sealed: true }
    }
}

impl Header {
    /// Reads an object; `besides` names a member that is none of its business.
    pub(crate) fn read(
        body: &JsonBody,
        scope: Scope,
        besides: Option<&str>,
        rules: &Rules<'_>,
        request: &RequestInfo,
    ) -> Result<Self, Vec<FieldError>> {
        let Some(object) = body.value.as_object() else {
            return Err(vec![FieldError::at("", "must be an object")]);
        };
        let (members, mut errors, mut header) = (body.members(), Vec::new(), Self::default());
        for (name, raw) in &members {
            let given = object.get(name.as_ref()).filter(|value| !value.is_null());
            match (name.as_ref(), given) {
                (name, _) if Some(name) == besides => {}
                (name, _) if !scope.fields().contains(&name) => {
                    let detail = format!("is not a known field; the fields are {}", scope.fields().join(", "));
                    errors.push(FieldError::at(pointer("", name), detail));
                }
                (_, None) => {}
                ("defaults", Some(value)) => match defaults(value, raw, rules) {
                    Ok(defaults) => header.defaults = defaults,
                    Err(wrong) => errors.extend(below("/defaults", wrong)),
                },
                ("follow_up", Some(value)) => match follow_up(value, raw, rules, request) {
                    Ok(plan) => header.follow_up = Some(plan),
                    Err(wrong) => errors.extend(below("/follow_up", wrong)),
                },
                ("callback", Some(value)) => match callback::read(value, &Event::OF_BATCHES, rules.signs) {
                    Ok(callback) => header.callback = Some(callback),
                    Err(wrong) => errors.extend(below("/callback", wrong)),
                },
                ("metadata", Some(value)) => match metadata::read(value, raw) {
                    Ok(metadata) => header.metadata = Some(metadata),
                    Err(detail) => errors.push(FieldError::at("/metadata", detail)),
                },
                (_, Some(Value::Bool(sealed))) => header.sealed = *sealed,
                (_, Some(_)) => errors.push(FieldError::at("/sealed", "must be true or false")),
            }
        }
        if errors.is_empty() { Ok(header) } else { Err(errors) }
    }
}

fn below(base: &'static str, errors: Vec<FieldError>) -> impl Iterator<Item = FieldError> {
    errors.into_iter().map(move |error| error.within(None, base))
}

fn defaults(value: &Value, raw: &RawValue, rules: &Rules<'_>) -> Result<Defaults, Vec<FieldError>> {
    let Value::Object(object) = value else { return Err(vec![FieldError::at("", "must be an object")]) };
    let body = part(value, raw);
    // What is not given is no default.
    let object: Map<String, Value> =
        object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let defaults = Defaults::new(object, &body.members());
    let errors = Submission::check_defaults(&defaults, rules);
    if errors.is_empty() { Ok(defaults) } else { Err(errors) }
}

fn follow_up(
    value: &Value,
    raw: &RawValue,
    rules: &Rules<'_>,
    request: &RequestInfo,
) -> Result<JobPlan, Vec<FieldError>> {
    let submission = Submission::check(&part(value, raw), rules, &Defaults::default())?;
    if submission.unique().is_some() {
        let detail = "is not for a follow-up job: it is accepted in any case";
        return Err(vec![FieldError::at("/unique_key", detail)]);
    }
    if submission.order().is_any() {
        let detail = "a job that follows a batch runs after all of that, and after nothing else";
        return Err(vec![FieldError::at("/after", detail)]);
    }
    Ok(JobPlan::from(submission.into_job(request, rules.limits, false, &mut Names::new())))
}

/// A member as a document of its own.
fn part(value: &Value, raw: &RawValue) -> JsonBody {
    JsonBody { bytes: raw.get().to_owned().into(), value: value.clone() }
}
