//! Times as the API writes them: RFC 3339, UTC, always six digits of a second and a `Z`.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A point in time on its way to a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 in UTC with microseconds.",
            "examples": ["2026-11-23T09:30:00.000000Z"],
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    #[test]
    fn there_are_always_six_digits() {
        let write = |micros| {
            let time = Utc.timestamp_micros(micros).single().expect("in range");
            serde_json::to_string(&Timestamp(time)).expect("serialises")
        };
        assert_eq!(write(0), r#""1970-01-01T00:00:00.000000Z""#);
        assert_eq!(write(1_790_000_000_120_000), r#""2026-09-21T14:13:20.120000Z""#);
    }
}
