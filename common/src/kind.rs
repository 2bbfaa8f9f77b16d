//! Kinds of jobs as everybody but their handler sees them: names, schemas, defaults; and the validation of payloads.

mod violation;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use violation::Violation;

/// What a kind promises about its effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effects {
    /// It may touch the outside world: each run is claimed, and so counted, before it starts.
    #[default]
    Unsafe,
    /// Starting it twice does no harm (it computes, or writes through the job's transaction): a short first run
    /// costs no claim.
    Repeatable,
}

/// Everything about a kind except its code. Workers register it, intake validates by it, `/v1/kinds` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KindSpec {
    /// The name in the API: lower case words joined by dots.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// The JSON Schema (2020-12) of the payload.
    pub payload_schema: Value,
    /// The JSON Schema (2020-12) of the result.
    pub result_schema: Value,
    /// The queue it goes to unless the request names one.
    pub queue: String,
    /// Attempts, unless the request says how many.
    pub max_attempts: u32,
    /// Seconds per attempt, unless the request says how many.
    pub timeout_seconds: u64,
    /// Whether its effects bear being started twice.
    pub effects: Effects,
}

impl KindSpec {
    /// A kind whose payload and result are described by Rust types.
    #[must_use]
    pub fn new<Payload: JsonSchema, Output: JsonSchema>(name: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: description.to_owned(),
            payload_schema: schemars::schema_for!(Payload).to_value(),
            result_schema: schemars::schema_for!(Output).to_value(),
            queue: "default".to_owned(),
            max_attempts: 5,
            timeout_seconds: 3600,
            effects: Effects::Unsafe,
        }
    }

    /// Declares that starting it twice does no harm.
    #[must_use]
    pub fn repeatable(self) -> Self {
        Self { effects: Effects::Repeatable, ..self }
    }

    /// The time that one attempt may take, unless the request says otherwise.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout_seconds: timeout.as_secs(), ..self }
    }
}

struct Entry {
    spec: KindSpec,
    validator: jsonschema::Validator,
}

/// The kinds that intake accepts, with their compiled schemas. Cheap to clone; made anew when kinds arrive.
#[derive(Clone, Default)]
pub struct KindCatalog {
    entries: Arc<BTreeMap<String, Entry>>,
}

/// A kind's payload schema is not a JSON Schema.
#[derive(Debug, thiserror::Error)]
#[error("the payload schema of kind `{kind}` is not a valid JSON Schema: {reason}")]
pub struct BadSchema {
    /// Whose schema.
    pub kind: String,
    /// What is wrong with it.
    pub reason: String,
}

impl KindCatalog {
    /// Compiles the schemas. Of two specs with one name the later holds.
    ///
    /// # Errors
    /// [`BadSchema`] where a payload schema does not compile.
    pub fn new(specs: impl IntoIterator<Item = KindSpec>) -> Result<Self, BadSchema> {
        let mut entries = BTreeMap::new();
        for spec in specs {
            let validator = jsonschema::validator_for(&spec.payload_schema)
                .map_err(|error| BadSchema { kind: spec.name.clone(), reason: error.to_string() })?;
            entries.insert(spec.name.clone(), Entry { spec, validator });
        }
        Ok(Self { entries: Arc::new(entries) })
    }

    /// A kind by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&KindSpec> {
        self.entries.get(name).map(|entry| &entry.spec)
    }

    /// Every kind, by name.
    pub fn iter(&self) -> impl Iterator<Item = &KindSpec> {
        self.entries.values().map(|entry| &entry.spec)
    }

    /// What is wrong with a payload of this kind; nothing if it is valid. `None` if the kind is unknown.
    #[must_use]
    pub fn violations(&self, name: &str, payload: &Value) -> Option<Vec<Violation>> {
        let entry = self.entries.get(name)?;
        Some(entry.validator.iter_errors(payload).flat_map(|error| violation::explain(&error)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Payload {
        width: u32,
        name: Option<String>,
    }

    #[test]
    fn violations_point_at_what_is_wrong() {
        let catalog = KindCatalog::new([KindSpec::new::<Payload, ()>("k", "")]).expect("compiles");
        let pointers = |payload: Value| {
            let found = catalog.violations("k", &payload).expect("known");
            found.into_iter().map(|v| v.pointer).collect::<Vec<_>>()
        };
        assert!(pointers(json!({"width": 1, "name": null})).is_empty());
        assert_eq!(pointers(json!({"width": -1})), ["/width"]);
        assert_eq!(pointers(json!({"name": 3, "width": "x"})).len(), 2);
        assert_eq!(pointers(json!({})), ["/width"]);
        assert_eq!(pointers(json!({"width": 1, "a/b": 1, "c": 2})), ["/a~1b", "/c"]);
        assert!(catalog.violations("unknown", &json!({})).is_none());
    }

    #[derive(JsonSchema)]
    #[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
    #[allow(dead_code)]
    enum Step {
        Resize { width: u32 },
        Crop { x: u32, y: u32 },
    }

    #[derive(JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Steps {
        steps: Vec<Step>,
        last: Option<Payload>,
        pace: Option<Pace>,
    }

    #[derive(JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code)]
    enum Pace {
        /// Documented, and so a variant of its own.
        Slow,
        Fast,
        Fastest,
    }

    #[test]
    fn a_choice_is_explained_by_the_variant_that_was_meant() {
        let catalog = KindCatalog::new([KindSpec::new::<Steps, ()>("k", "")]).expect("compiles");
        let found = |step: Value| {
            let found = catalog.violations("k", &json!({"steps": [step]})).expect("known");
            found.into_iter().map(|v| format!("{} {}", v.pointer, v.detail)).collect::<Vec<_>>()
        };
        assert!(found(json!({"op": "crop", "x": 1, "y": 1})).is_empty());
        assert_eq!(found(json!({"op": "resize", "width": 1, "x": 1})), ["/steps/0/x is not a known field"]);
        assert_eq!(found(json!({"op": "crop", "x": 1})), ["/steps/0/y is required"]);
        assert_eq!(found(json!({"op": "turn"})), [r#"/steps/0/op must be one of "resize", "crop""#]);
        assert_eq!(found(json!("crop")).len(), 1);
        let optional = catalog.violations("k", &json!({"steps": [], "last": {}})).expect("known");
        assert_eq!(optional.iter().map(|v| v.pointer.as_str()).collect::<Vec<_>>(), ["/last/width"]);
        let pace = catalog.violations("k", &json!({"steps": [], "pace": "none"})).expect("known");
        let expected = r#"must be one of "fast", "fastest", "slow""#;
        assert_eq!(
            pace.iter().map(|v| (v.pointer.as_str(), v.detail.as_str())).collect::<Vec<_>>(),
            [("/pace", expected)]
        );
    }
}
