//! The schemas of submissions: one per kind, told apart by the member `kind`.

use offload_common::callback::Event;
use offload_common::job::{AfterPolicy, MAX_PARENTS, OnConflict, Priority};
use offload_common::kind::KindSpec;
use serde_json::{Map, Value, json};

use super::COMPONENTS;
use crate::submission::{
    MAX_ATTEMPTS, MAX_DELAY_SECONDS, MAX_REF_CHARS, MAX_TAG_CHARS, MAX_TAGS, MAX_UNIQUE_KEY_CHARS, callback,
};

/// The name of the schema that takes any kind.
pub(super) const SUBMISSION: &str = "Submission";

/// The name of the schema of everything that is the same for all kinds.
pub(super) const OPTIONS: &str = "SubmissionOptions";

/// Everything that the kinds add to the document's schemas.
pub(super) fn schemas(specs: &[KindSpec]) -> Map<String, Value> {
    let mut schemas = Map::new();
    let (mut variants, mut mapping) = (Vec::new(), Map::new());
    for spec in specs {
        let (submission, payload, result) =
            (format!("{SUBMISSION}.{}", spec.name), format!("Payload.{}", spec.name), format!("Result.{}", spec.name));
        variants.push(json!({ "$ref": format!("{COMPONENTS}{submission}") }));
        mapping.insert(spec.name.clone(), format!("{COMPONENTS}{submission}").into());
        schemas.insert(payload.clone(), moved(&spec.payload_schema, &payload));
        schemas.insert(result.clone(), moved(&spec.result_schema, &result));
        schemas.insert(
            submission,
            json!({
                "description": spec.description,
                "allOf": [{ "$ref": format!("{COMPONENTS}{OPTIONS}") }],
                "type": "object",
                "required": ["kind", "payload"],
                "properties": {
                    "kind": { "const": spec.name },
                    "payload": { "$ref": format!("{COMPONENTS}{payload}") },
                },
                "unevaluatedProperties": false,
            }),
        );
    }
    schemas.insert(OPTIONS.to_owned(), options());
    let mut any = json!({ "description": "A job to run.", "type": "object", "required": ["kind", "payload"] });
    if !variants.is_empty() {
        any["oneOf"] = variants.into();
        any["discriminator"] = json!({ "propertyName": "kind", "mapping": mapping });
    }
    schemas.insert(SUBMISSION.to_owned(), any);
    schemas
}

/// What a submission may say beside kind and payload. A member that is `null` is not given.
fn options() -> Value {
    let priorities: Vec<Value> = Priority::ALL.iter().map(|p| p.as_str().into()).chain([Value::Null]).collect();
    let on_conflict: Vec<Value> = OnConflict::ALL.iter().map(|p| p.as_str().into()).chain([Value::Null]).collect();
    let after_policies: Vec<Value> = AfterPolicy::ALL.iter().map(|p| p.as_str().into()).chain([Value::Null]).collect();
    json!({
        "type": "object",
        "properties": {
            "queue": {
                "type": ["string", "null"],
                "description": "A configured queue; the kind's own unless given.",
            },
            "priority": { "enum": priorities, "description": "`normal` unless given.", "default": "normal" },
            "run_at": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "Not before this time. Excludes `delay_seconds`.",
            },
            "delay_seconds": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": MAX_DELAY_SECONDS,
                "description": "Not before this many seconds have passed. Excludes `run_at`.",
            },
            "max_attempts": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": MAX_ATTEMPTS,
                "description": "The kind's own number unless given. 1 means: never start it twice.",
            },
            "timeout_seconds": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "The time that one attempt may take; the kind's own unless given.",
            },
            "metadata": {
                "type": ["object", "null"],
                "description": "An object of your own, up to 16 KiB; comes back with the job.",
            },
            "tags": {
                "type": ["array", "null"],
                "maxItems": MAX_TAGS,
                "items": { "type": "string", "minLength": 1, "maxLength": MAX_TAG_CHARS },
                "description": "For finding it again: `GET /v1/jobs?tag=…`.",
            },
            "callback": callback::schema(&Event::OF_JOBS),
            "unique_key": {
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": MAX_UNIQUE_KEY_CHARS,
                "description": "Of the jobs of its kind that have not come to their end, one at most has this key.",
            },
            "on_conflict": {
                "enum": on_conflict,
                "default": "return",
                "description": "What becomes of the job where a live one has its `unique_key`: `return` answers that one, \
                                `replace` cancels it, unless it runs, and `refuse` answers 409.",
            },
            "ref": {
                "type": ["string", "null"],
                "minLength": 1,
                "maxLength": MAX_REF_CHARS,
                "description": "A name for those after it in the same batch request to say `after: [\"ref:…\"]`.",
            },
            "after": {
                "type": ["array", "null"],
                "maxItems": MAX_PARENTS,
                "uniqueItems": true,
                "items": { "type": "string", "minLength": 1 },
                "description": "Not before these jobs have ended: ids, or `ref:` and the name of a job before it in the same \
                                batch request.",
            },
            "after_policy": {
                "enum": after_policies,
                "default": "cancel",
                "description": "When a job that it runs after does not succeed: `cancel` it at once, or `run` it all the same \
                                once all of them are final.",
            },
        },
    })
}

/// A schema that was a document of its own, as the component `name`: what pointed into the document points into the
/// component.
fn moved(schema: &Value, name: &str) -> Value {
    let mut schema = schema.clone();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        // With an `$id` it stays a document of its own wherever it is embedded, and its references hold.
        if !object.contains_key("$id") {
            point_into(&mut schema, &format!("{COMPONENTS}{name}"));
        }
    }
    schema
}

fn point_into(schema: &mut Value, base: &str) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| point_into(schema, base)),
        Value::Object(members) => {
            // "No default", as generators write it for what may be left out: as a value it would often be of a wrong type.
            if members.get("default").is_some_and(Value::is_null) {
                members.remove("default");
            }
            for (keyword, value) in members {
                match (keyword.as_str(), value) {
                    ("$ref" | "$dynamicRef", Value::String(reference)) => {
                        if let Some(pointer) =
                            reference.strip_prefix('#').filter(|p| p.is_empty() || p.starts_with('/'))
                        {
                            *reference = format!("{base}{pointer}");
                        }
                    }
                    // Data that happens to look like a schema.
                    ("const" | "enum" | "default" | "examples" | "example", _) => {}
                    // Their members are names, not keywords.
                    (
                        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                        Value::Object(named),
                    ) => {
                        named.values_mut().for_each(|schema| point_into(schema, base));
                    }
                    (_, value) => point_into(value, base),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_follow_a_schema_to_its_new_place() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": "#",
            "properties": {
                "default": { "$ref": "#/$defs/A" },
                "enum": { "enum": [{ "$ref": "#/$defs/A" }] },
                "other": { "$ref": "https://example.com/other.json#/x", "default": null },
            },
            "items": [{ "anyOf": [{ "$ref": "#/$defs/A" }] }],
            "$defs": { "A": { "$ref": "#/$defs/B" }, "B": { "$ref": "#anchor" } },
        });
        let base = "#/components/schemas/k";
        let expected = json!({
            "$ref": base,
            "properties": {
                "default": { "$ref": format!("{base}/$defs/A") },
                "enum": { "enum": [{ "$ref": "#/$defs/A" }] },
                "other": { "$ref": "https://example.com/other.json#/x" },
            },
            "items": [{ "anyOf": [{ "$ref": format!("{base}/$defs/A") }] }],
            "$defs": { "A": { "$ref": format!("{base}/$defs/B") }, "B": { "$ref": "#anchor" } },
        });
        assert_eq!(moved(&schema, "k"), expected);
        let own = json!({ "$id": "https://example.com/own.json", "$ref": "#/$defs/A" });
        assert_eq!(moved(&own, "k"), own);
        assert_eq!(moved(&json!(true), "k"), json!(true));
    }
}
