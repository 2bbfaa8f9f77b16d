//! Decoding that the stores share.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::RawJson;
use crate::store::{Error, Result};

/// A value whose text the store wrote itself: a state, a priority.
pub(super) fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| Error::Corrupt(format!("column {column}: {error}")))
}

/// JSON that the store wrote itself: a policy, a progress, a history.
pub(super) fn json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt(format!("column {column}: {error}")))
}

/// JSON that is carried through as it is.
pub(super) fn raw(column: &str, text: String) -> Result<RawJson> {
    serde_json::value::RawValue::from_string(text).map_err(|error| Error::Corrupt(format!("column {column}: {error}")))
}

/// A count, which databases store signed.
pub(super) fn count(column: &str, value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::Corrupt(format!("column {column}: {value} is not a count")))
}

/// A duration in whole milliseconds.
pub(super) fn milliseconds(column: &str, value: i64) -> Result<Duration> {
    let value =
        u64::try_from(value).map_err(|_| Error::Corrupt(format!("column {column}: {value} is not a duration")))?;
    Ok(Duration::from_millis(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::State;

    #[test]
    fn what_does_not_decode_names_its_column() {
        let corrupt = |result: Result<()>| result.expect_err("does not decode").to_string();
        assert!(corrupt(parse::<State>("state", "lost").map(drop)).contains("column state: `lost` is not a state"));
        assert!(corrupt(json::<u8>("history", "{").map(drop)).contains("column history"));
        assert!(corrupt(raw("payload", "{".to_owned()).map(drop)).contains("column payload"));
        assert!(corrupt(count("attempt", -1).map(drop)).contains("column attempt: -1"));
        assert!(corrupt(milliseconds("timeout", -1).map(drop)).contains("column timeout: -1"));
        assert_eq!(raw("payload", "{ }".to_owned()).expect("JSON").get(), "{ }");
    }
}
