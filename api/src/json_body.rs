//! Reading a JSON body: its media type, its size, its syntax, in that order.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::body::decoded;
use crate::problem::{FieldError, Problem, ProblemType};

/// A body that trickles in more slowly than this is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body that is JSON.
#[derive(Debug)]
pub(crate) struct JsonBody {
    /// As it was sent, before it was compressed.
    pub(crate) bytes: Bytes,
    /// As it was read.
    pub(crate) value: Value,
}

/// Reads a JSON body of at most `limit` bytes.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: u64) -> Result<JsonBody, Problem> {
    if !is_json(headers) {
        let detail = "the body must be sent with `Content-Type: application/json`";
        return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    }
    parse(collect(headers, body, limit).await?)
}

/// Reads the body of a request that needs none: nothing, or an empty JSON object.
pub(crate) async fn read_nothing(headers: &HeaderMap, body: Body, limit: u64) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if headers.contains_key(CONTENT_TYPE) && !is_json(headers) {
        return Err(Problem::new(
            ProblemType::UnsupportedMediaType,
            "this request needs no body; JSON is the only one it takes",
        ));
    }
    let bytes = collect(headers, body, limit).await?;
    if bytes.is_empty() {
        return Ok(bytes);
    }
    match parse(bytes)? {
        JsonBody { bytes, value: Value::Object(members) } if members.is_empty() => Ok(bytes),
        _ => Err(Problem::validation(vec![FieldError::at("", "must be empty, or an empty object")])),
    }
}

/// `application/json`, or a type that builds on it.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn collect(headers: &HeaderMap, body: Body, limit: u64) -> Result<Bytes, Problem> {
    let mut pieces = decoded(headers, body, limit)?;
    let mut collected = BytesMut::new();
    let read = async {
        while let Some(piece) = pieces.next().await {
            collected.extend_from_slice(&piece?);
        }
        Ok(())
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", PATIENCE.as_secs());
        Err(Problem::new(ProblemType::RequestTimeout, detail))
    })?;
    Ok(collected.freeze())
}

fn parse(bytes: Bytes) -> Result<JsonBody, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(ProblemType::MalformedJson, "the body is empty; a JSON document is expected"));
    }
    let value = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(ProblemType::MalformedJson, &error).with("line", error.line()).with("column", error.column())
    })?;
    Ok(JsonBody { bytes, value })
}

impl JsonBody {
    /// The members of a top-level object as they were sent: in order, unparsed, repeated ones too.
    pub(crate) fn members(&self) -> Vec<(Cow<'_, str>, &RawValue)> {
        serde_json::from_slice(&self.bytes).map_or_else(|_| Vec::new(), |Members(members)| members)
    }
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
