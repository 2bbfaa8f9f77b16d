//! How an endpoint describes itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::COMPONENTS;
use crate::problem::{MEDIA_TYPE, ProblemType};

/// What an endpoint does, takes and answers.
pub(crate) struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Parameter>,
    body: Option<Value>,
    answers: Vec<Answer>,
    problems: Vec<ProblemType>,
}

/// A parameter of a request.
pub(crate) struct Parameter {
    name: &'static str,
    place: &'static str,
    description: &'static str,
    schema: Value,
}

/// A successful answer.
pub(crate) struct Answer {
    status: u16,
    description: &'static str,
    content: Option<(&'static str, Value)>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    /// `id` is the name that generated clients give the call.
    pub(crate) fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            description: "",
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: vec![ProblemType::Internal],
        }
    }

    /// More than the summary says.
    pub(crate) fn description(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// Adds a parameter.
    pub(crate) fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Adds the job that the path names.
    pub(crate) fn of_a_job(self) -> Self {
        let id = Parameter::path("id", "The job's id.", json!({ "type": "string", "format": "uuid" }));
        self.parameter(id).problems(&[ProblemType::NotFound]).asks_the_database()
    }

    /// Adds the schedule that the path names.
    pub(crate) fn of_a_schedule(self) -> Self {
        let id = Parameter::path("id", "The schedule's id.", json!({ "type": "string", "format": "uuid" }));
        self.parameter(id).problems(&[ProblemType::NotFound]).asks_the_database()
    }

    /// Adds the version that a change is meant for.
    pub(crate) fn may_match(self) -> Self {
        let text = "The schedule's `ETag` as you know it: if somebody has changed it since, nothing is done. Without it, \
                    the change is made whatever was there.";
        self.parameter(Parameter::header("If-Match", text, json!({ "type": "string" })))
            .problems(&[ProblemType::PreconditionFailed])
    }

    /// Adds the wish to wait.
    pub(crate) fn may_wait(self) -> Self {
        let text = "Wait up to this many seconds for the job to be final. The server cuts long wishes.";
        let wait = Parameter::query("wait", text, json!({ "type": "integer", "minimum": 0 }));
        let text = "`wait=N` does the same as `?wait=N` (RFC 7240); `Preference-Applied` says what was honoured.";
        self.parameter(wait)
            .parameter(Parameter::header("Prefer", text, json!({ "type": "string", "examples": ["wait=10"] })))
            .problems(&[ProblemType::InvalidParameter])
    }

    /// Adds the idempotency key.
    pub(crate) fn idempotent(self) -> Self {
        let text = "The same key with the same request names the same job, for a day: the answer is then a replay, and \
                    carries `Idempotency-Replayed: true`. 1 to 255 visible ASCII characters, bare or quoted.";
        let key =
            Parameter::header("Idempotency-Key", text, json!({ "type": "string", "minLength": 1, "maxLength": 257 }));
        self.parameter(key).problems(&[
            ProblemType::InvalidIdempotencyKey,
            ProblemType::IdempotencyKeyReused,
            ProblemType::Gone,
        ])
    }

    /// The request's body, by media type.
    pub(crate) fn body(mut self, required: bool, content: Value) -> Self {
        self.body = Some(json!({ "required": required, "content": content }));
        self
    }

    /// Adds an answer.
    pub(crate) fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// Adds what may go wrong.
    pub(crate) fn problems(mut self, problems: &[ProblemType]) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Adds what may go wrong wherever the database is asked.
    pub(crate) fn asks_the_database(self) -> Self {
        self.problems(&[ProblemType::DatabaseUnavailable, ProblemType::DatabaseNotMigrated])
    }

    /// Adds what may go wrong with a JSON body.
    pub(crate) fn reads_json(self) -> Self {
        self.problems(&[
            ProblemType::MalformedRequest,
            ProblemType::MalformedJson,
            ProblemType::RequestTimeout,
            ProblemType::ContentTooLarge,
            ProblemType::UnsupportedMediaType,
            ProblemType::Validation,
        ])
    }

    /// The Operation Object.
    pub(super) fn to_json(&self) -> Value {
        let mut object = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": self.responses(),
        });
        if !self.description.is_empty() {
            object["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            object["parameters"] = self.parameters.iter().map(Parameter::to_json).collect();
        }
        if let Some(body) = &self.body {
            object["requestBody"] = body.clone();
        }
        object
    }

    fn responses(&self) -> Map<String, Value> {
        let mut by_status: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
        for problem in &self.problems {
            let of_status = by_status.entry(problem.entry().status.as_u16()).or_default();
            if !of_status.contains(problem) {
                of_status.push(*problem);
            }
        }
        let answers = self.answers.iter().map(|answer| (answer.status.to_string(), answer.to_json()));
        let problems = by_status.into_iter().map(|(status, kinds)| (status.to_string(), problem_response(&kinds)));
        answers.chain(problems).collect()
    }
}

/// The name of a problem type's schema.
pub(super) fn problem_schema(kind: ProblemType) -> String {
    format!("Problem.{}", kind.entry().name)
}

fn problem_response(kinds: &[ProblemType]) -> Value {
    let titles: Vec<_> = kinds.iter().map(|kind| format!("{}.", kind.entry().title)).collect();
    let mut refs = kinds.iter().map(|kind| json!({ "$ref": format!("{COMPONENTS}{}", problem_schema(*kind)) }));
    let schema = match kinds.len() {
        1 => refs.next().unwrap_or_default(),
        _ => json!({ "oneOf": refs.collect::<Vec<_>>() }),
    };
    let mut object = json!({ "description": titles.join(" "), "content": { MEDIA_TYPE: { "schema": schema } } });
    if kinds.contains(&ProblemType::UnsupportedMediaType) {
        object["headers"] = json!({ "Accept-Encoding": {
            "description": "The encodings that the body may have, where it is the encoding that is not supported.",
            "schema": { "type": "string" },
        } });
    }
    object
}

impl Parameter {
    /// A part of the path.
    pub(crate) fn path(name: &'static str, description: &'static str, schema: Value) -> Self {
        Self { name, place: "path", description, schema }
    }

    /// A query parameter.
    pub(crate) fn query(name: &'static str, description: &'static str, schema: Value) -> Self {
        Self { name, place: "query", description, schema }
    }

    /// A header.
    pub(crate) fn header(name: &'static str, description: &'static str, schema: Value) -> Self {
        Self { name, place: "header", description, schema }
    }

    fn to_json(&self) -> Value {
        let Self { name, place, description, schema } = self;
        json!({ "name": name, "in": place, "required": *place == "path", "description": description, "schema": schema })
    }
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: u16, description: &'static str) -> Self {
        Self { status, description, content: None, headers: Vec::new() }
    }

    /// An answer with a body of this media type.
    pub(crate) fn of(status: u16, description: &'static str, media_type: &'static str, schema: Value) -> Self {
        Self { content: Some((media_type, schema)), ..Self::empty(status, description) }
    }

    /// A JSON answer.
    pub(crate) fn json(status: u16, description: &'static str, schema: Value) -> Self {
        Self::of(status, description, "application/json", schema)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.headers.push((name, description));
        self
    }

    fn to_json(&self) -> Value {
        let mut object = json!({ "description": self.description });
        if let Some((media_type, schema)) = &self.content {
            object["content"] = json!({ *media_type: { "schema": schema } });
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|(name, description)| {
                ((*name).to_owned(), json!({ "description": description, "schema": { "type": "string" } }))
            });
            object["headers"] = Value::Object(headers.collect());
        }
        object
    }
}
