//! The object of a client's own that a batch carries.

use offload_common::RawJson;
use serde_json::Value;
use serde_json::value::RawValue;

use super::MAX_METADATA_BYTES;

/// Checks it; says what is wrong.
pub(crate) fn read(value: &Value, raw: &RawValue) -> Result<RawJson, String> {
    if !value.is_object() {
        return Err("must be an object".to_owned());
    }
    if raw.get().len() > MAX_METADATA_BYTES {
        return Err(format!("must not be longer than {MAX_METADATA_BYTES} bytes"));
    }
    if raw.get().contains("\\u0000") {
        return Err("must not contain the character U+0000".to_owned());
    }
    Ok(raw.to_owned())
}
