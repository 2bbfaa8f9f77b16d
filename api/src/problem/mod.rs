//! Problems: every answer that is not a success, as RFC 9457 describes it.
//!
//! A handler answers `Err(Problem)`. The body is written by [`crate::envelope`], which knows the request that it
//! belongs to, so that each problem looks the same wherever it came from.

mod from_errors;
mod types;

use std::fmt::Display;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use offload_common::job::JobId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use types::{Entry, ProblemType};

/// The media type of a problem.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// More errors than this are cut off: a client that sends a thousand wrong rows learns enough from these.
pub(crate) const MAX_ERRORS: usize = 100;

/// Seconds after which a request that failed for want of a service is worth sending again.
const RETRY_AFTER_SECONDS: u64 = 2;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct FieldError {
    /// JSON Pointer (RFC 6901) to what is wrong in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// The query parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// The line of the body that it is about, from 1, where the body consists of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// What is wrong with it.
    pub(crate) detail: String,
}

impl FieldError {
    /// Something in the body.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, line: None, detail: detail.into() }
    }

    /// The same, of a part of the body: in this line, or below this pointer.
    pub(crate) fn within(self, line: Option<u64>, base: &str) -> Self {
        Self { pointer: self.pointer.map(|pointer| format!("{base}{pointer}")), line, ..self }
    }

    /// A query parameter.
    pub(crate) fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(name.into()), line: None, detail: detail.into() }
    }
}

/// What went wrong with a request.
#[derive(Clone, Debug)]
pub(crate) struct Problem(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    kind: ProblemType,
    detail: String,
    errors: Vec<FieldError>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// The unique key of a kind is taken by a live job; `None` for another one of the same request.
    pub(crate) fn unique_key_held(kind: &str, key: &str, by: Option<JobId>) -> Self {
        let detail = match by {
            Some(job) => format!("the live job {job} has the unique_key `{key}` of the kind `{kind}`"),
            None => format!("two jobs of the request have the unique_key `{key}` of the kind `{kind}`"),
        };
        let problem = Self::new(ProblemType::UniqueKeyHeld, detail);
        match by {
            Some(job) => problem.with("job_id", job.to_string()),
            None => problem,
        }
    }

    /// A problem of this type; `detail` is about this occurrence.
    pub(crate) fn new(kind: ProblemType, detail: impl Display) -> Self {
        let parts =
            Parts { kind, detail: detail.to_string(), errors: Vec::new(), members: Map::new(), headers: Vec::new() };
        Self(Box::new(parts))
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Display) -> Self {
        Self::new(ProblemType::NotFound, detail)
    }

    /// The body is not what is asked for.
    pub(crate) fn validation(errors: Vec<FieldError>) -> Self {
        Self::new(ProblemType::Validation, summary(&errors)).with_errors(errors)
    }

    /// Query parameters are not what is asked for.
    pub(crate) fn parameters(errors: Vec<FieldError>) -> Self {
        Self::new(ProblemType::InvalidParameter, summary(&errors)).with_errors(errors)
    }

    /// The body is longer than `limit` bytes.
    pub(crate) fn too_large(limit: u64) -> Self {
        Self::new(ProblemType::ContentTooLarge, format_args!("the body is longer than {limit} bytes"))
            .with("limit_bytes", limit)
    }

    /// The database did not answer in time.
    pub(crate) fn database_unavailable() -> Self {
        Self::new(ProblemType::DatabaseUnavailable, "the database does not answer; send the request again")
            .retry_after(RETRY_AFTER_SECONDS)
    }

    /// This process is on its way out.
    pub(crate) fn shutting_down() -> Self {
        Self::new(ProblemType::ShuttingDown, "this process is shutting down; send the request again")
            .retry_after(RETRY_AFTER_SECONDS)
    }

    /// A defect, which the log tells about.
    pub(crate) fn internal() -> Self {
        Self::new(ProblemType::Internal, "the server's log has the details under the request id")
    }

    /// Its type.
    pub(crate) fn kind(&self) -> ProblemType {
        self.0.kind
    }

    fn with_errors(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(MAX_ERRORS);
        self.0.errors = errors;
        self
    }

    /// Adds an extension member.
    pub(crate) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(member.to_owned(), value.into());
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.0.headers.push((name, value.into()));
        self
    }

    /// Says when to try again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, seconds)
    }

    /// The answer, with its body.
    pub(crate) fn render(self, instance: &str, request_id: &str) -> Response {
        let Parts { kind, detail, errors, mut members, headers } = *self.0;
        let entry = kind.entry();
        members.insert("type".to_owned(), kind.uri().into());
        members.insert("title".to_owned(), entry.title.into());
        members.insert("status".to_owned(), entry.status.as_u16().into());
        members.insert("detail".to_owned(), detail.into());
        members.insert("instance".to_owned(), instance.into());
        members.insert("request_id".to_owned(), request_id.into());
        if !errors.is_empty() {
            members.insert("errors".to_owned(), serde_json::to_value(errors).unwrap_or_default());
        }
        let mut response = (entry.status, Body::from(Value::Object(members).to_string())).into_response();
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.kind.entry().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// One sentence over all errors: the first in full, and how many more there are.
fn summary(errors: &[FieldError]) -> String {
    let Some(first) = errors.first() else { return String::new() };
    let place = first.pointer.as_deref().filter(|p| !p.is_empty()).or(first.parameter.as_deref());
    let detail = match place {
        Some(place) => format!("{place}: {}", first.detail),
        None => first.detail.clone(),
    };
    let first = match first.line {
        Some(line) => format!("line {line}: {detail}"),
        None => detail,
    };
    match errors.len() - 1 {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}
