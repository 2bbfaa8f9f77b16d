//! The OpenAPI document, made from the list of endpoints and the kinds that are known.

mod kinds;
mod operation;

use offload_common::callback::Event;
use offload_common::kind::KindSpec;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

pub(crate) use operation::{Answer, Operation, Parameter};

use crate::problem::{FieldError, ProblemType};
use crate::routes::{self, Endpoint};
use crate::submission::callback;

/// Where schemas live in the document.
const COMPONENTS: &str = "#/components/schemas/";

/// The OpenAPI 3.1 document of the API, for these kinds.
#[must_use]
pub fn openapi(specs: &[KindSpec]) -> Value {
    document(&routes::endpoints(), specs)
}

/// Collects the schemas of the Rust types that operations mention.
pub(crate) struct Schemas(SchemaGenerator);

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        Self(settings.with(|s| s.definitions_path = "/components/schemas".into()).into_generator())
    }

    /// The schema of a type, by reference where it has a name.
    pub(crate) fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// The schema of a page of a list.
    pub(crate) fn items_of<T: JsonSchema>(&mut self) -> Value {
        json!({
            "type": "object",
            "required": ["items"],
            "properties": { "items": { "type": "array", "items": self.of::<T>() } },
        })
    }
}

/// The schema of a submission, which the document makes from the kinds.
pub(crate) fn submission_schema() -> Value {
    json!({ "$ref": format!("{COMPONENTS}{}", kinds::SUBMISSION) })
}

/// The schema of many submissions.
pub(crate) fn batch_schema(new: bool, submission: &Value) -> Value {
    let options = json!({ "$ref": format!("{COMPONENTS}{}", kinds::OPTIONS) });
    let defaults = json!({ "allOf": [options], "type": ["object", "null"],
        "description": "What stands for fields that a job does not give; `kind` and `payload` may be among them." });
    let mut schema = json!({
        "type": "object",
        "required": ["jobs"],
        "properties": { "defaults": defaults, "jobs": { "type": "array", "items": {
            "anyOf": [submission, { "type": "object", "description": "With what `defaults` leaves open." }] } } },
    });
    let properties = &mut schema["properties"];
    if new {
        properties["follow_up"] = json!({ "anyOf": [submission, { "type": "null" }],
            "description": "A job that is accepted, once, when all jobs of the batch are final for the first time." });
        properties["callback"] = callback::schema(&Event::OF_BATCHES);
        properties["metadata"] =
            json!({ "type": ["object", "null"], "description": "An object of your own, up to 16 KiB." });
        properties["sealed"] = json!({ "type": ["boolean", "null"], "default": true,
            "description": "Whether these are all of its jobs. Else more can be added until it is sealed." });
    }
    schema
}

fn document(endpoints: &[Endpoint], specs: &[KindSpec]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for endpoint in endpoints {
        let Some(describe) = endpoint.describe else { continue };
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = describe(&mut schemas).to_json();
    }
    let errors = schemas.of::<FieldError>();
    let mut components = schemas.0.take_definitions(true);
    components.extend(problems(&errors));
    components.extend(kinds::schemas(specs));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Offload",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Hand heavy work in over HTTP, and fetch its result.",
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [],
        "tags": tags(),
        "paths": paths,
        "components": { "schemas": components },
    })
}

const DESCRIPTION: &str = "\
A job is accepted with `202` once it is committed; from then on it reaches exactly one of the final states \
`succeeded`, `failed` and `cancelled`, whatever fails in between. Poll it, or wait for it with `?wait=N` or \
`Prefer: wait=N`.\n\n\
Every answer that is not a success is `application/problem+json` (RFC 9457) with a stable `type`. Times are RFC 3339 \
in UTC with microseconds. Every request may carry `X-Request-Id`, which comes back, and a W3C `traceparent`, which \
travels with the job.\n\n\
Bodies of requests, those of file uploads aside, may be compressed (`Content-Encoding: gzip` or `zstd`); limits are of what \
they unpack to. Answers are compressed as `Accept-Encoding` asks, except files and streams of events.";

fn tags() -> Value {
    json!([
        { "name": "jobs", "description": "Submit, follow, cancel and repeat jobs." },
        { "name": "schedules", "description": "Jobs that are submitted again and again." },
        { "name": "batches", "description": "Many jobs at once: submit, follow, cancel and repeat them together." },
        { "name": "files", "description": "What jobs read, and what they produce." },
        { "name": "fleet", "description": "What is on offer: kinds, queues, workers." },
        { "name": "server", "description": "Probes and descriptions." },
    ])
}

/// The general form of a problem, and one schema per type.
fn problems(errors: &Value) -> Map<String, Value> {
    let mut schemas = Map::new();
    schemas.insert(
        "Problem".to_owned(),
        json!({
            "type": "object",
            "description": "What went wrong (RFC 9457). Members beside these say more where a type has more to say.",
            "required": ["type", "title", "status", "detail", "instance", "request_id"],
            "properties": {
                "type": { "type": "string", "format": "uri-reference", "description": "Stable: match on this." },
                "title": { "type": "string", "description": "A short summary, the same for every problem of the type." },
                "status": { "type": "integer", "description": "The status of the answer." },
                "detail": { "type": "string", "description": "What is the matter this time." },
                "instance": { "type": "string", "format": "uri-reference", "description": "The path of the request." },
                "request_id": { "type": "string", "description": "Finds the request in the server's log." },
                "errors": { "type": "array", "items": errors, "description": "Everything that is wrong." },
            },
        }),
    );
    for kind in ProblemType::ALL {
        let entry = kind.entry();
        schemas.insert(
            operation::problem_schema(kind),
            json!({
                "description": entry.description,
                "allOf": [
                    { "$ref": format!("{COMPONENTS}Problem") },
                    {
                        "properties": {
                            "type": { "const": kind.uri() },
                            "title": { "const": entry.title },
                            "status": { "const": entry.status.as_u16() },
                        },
                    },
                ],
            }),
        );
    }
    schemas
}

#[cfg(test)]
mod tests;
