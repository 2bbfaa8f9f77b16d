//! JSON from outside (a program, a server, a file) on its way into a store.

use offload_common::RawJson;
use serde_json::Value;

/// The text as JSON, formatted as it came.
///
/// # Errors
/// Why not: it is no JSON; or it is nested so deep, or holds characters (`\u0000`, half of a surrogate pair), that a
/// store refuses it.
pub(super) fn storable(text: &str) -> Result<RawJson, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if holds_nul(&value) {
        return Err("it holds the character \\u0000".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_stored_passes_untouched() {
        for text in ["null", "1.50", "12345678901234567890123", r#"{"b": 1,  "a": "\u00e9\\u0000", "a": []}"#] {
            assert_eq!(storable(text).map(|json| json.get().to_owned()), Ok(text.to_owned()));
        }
        assert_eq!(storable(" \n{} \r\n").expect("white space around is no matter").get(), "{}");
    }

    #[test]
    fn what_a_store_would_refuse_is_found() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for text in ["", "{", "nul", "1 2", r#""\u0000""#, r#"{"a":[{"\u0000":1}]}"#, r#""\ud800""#, "\"\n\"", &deep] {
            assert!(storable(text).is_err(), "{text}");
        }
    }
}
