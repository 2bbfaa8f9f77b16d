//! The payload argument: JSON, a file, or standard input.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::Context;
use offload_common::RawJson;
use offload_common::job::FileId;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::exit::UsageError;

/// Reads it, and checks that it is JSON.
///
/// # Errors
/// Where it cannot be read, or is no JSON.
pub(in crate::commands) fn read(argument: &str) -> anyhow::Result<RawJson> {
    let (text, place) = if argument == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        (text, "standard input")
    } else if let Some(path) = argument.strip_prefix('@') {
        let text = std::fs::read_to_string(path).with_context(|| format!("the payload file {path} cannot be read"))?;
        (text, path)
    } else {
        (argument.to_owned(), "the payload")
    };
    Ok(parse(&text, place)?)
}

fn parse(text: &str, place: &str) -> Result<RawJson, UsageError> {
    serde_json::from_str(text).map_err(|error| UsageError(format!("{place} is not JSON: {error}")))
}

/// The payload with `{"file": id}` in a field of it.
///
/// # Errors
/// Where it is no object.
pub(super) fn with_file(payload: &RawJson, field: &str, id: FileId) -> anyhow::Result<RawJson> {
    let fields: Result<BTreeMap<String, RawJson>, _> = serde_json::from_str(payload.get());
    let mut fields = fields.map_err(|_| UsageError("--file needs a payload that is a JSON object".to_owned()))?;
    fields.insert(field.to_owned(), to_raw_value(&json!({ "file": id }))?);
    Ok(to_raw_value(&fields)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_no_json_is_refused_with_its_place() {
        let error = parse("{\"a\": }", "the payload").expect_err("no JSON");
        assert_eq!(error.to_string(), "the payload is not JSON: expected value at line 1 column 7");
    }

    #[test]
    fn a_file_goes_into_its_field_and_the_rest_stays_as_it_was() {
        let id = FileId::new();
        let payload = parse(r#"{"big": 123456789012345678901234567890}"#, "").expect("JSON");
        let with = with_file(&payload, "source", id).expect("an object");
        assert_eq!(with.get(), format!(r#"{{"big":123456789012345678901234567890,"source":{{"file":"{id}"}}}}"#));
        assert!(with_file(&parse("[]", "").expect("JSON"), "source", id).is_err());
    }
}
