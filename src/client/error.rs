//! What can go wrong between a client and the server, told so that a person can act on it.

use std::fmt::{self, Write};

use reqwest::{StatusCode, Url};
use serde::Deserialize;

use crate::output::printable;

/// Why a request did not give what was asked for.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The address is none.
    Address {
        /// As it was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer.
    Unreachable {
        /// Who did not answer.
        server: String,
        /// What the network said.
        reason: String,
    },
    /// The server refused, and says why.
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Its problem document.
        problem: Problem,
    },
    /// An answer that does not look like Offload's.
    Odd {
        /// Who answered.
        server: String,
        /// What is odd.
        reason: String,
    },
}

/// A problem document (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    title: Option<String>,
    detail: Option<String>,
    errors: Vec<Detail>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    pointer: Option<String>,
    parameter: Option<String>,
    line: Option<u64>,
    detail: String,
}

impl ClientError {
    pub(super) fn transport(server: &Url, error: reqwest::Error) -> Self {
        let mut reason = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        // The outermost message repeats the address and the innermost says what happened.
        while let Some(next) = cause {
            reason = next.to_string();
            cause = next.source();
        }
        if error.is_timeout() {
            reason = "it did not answer in time".to_owned();
        }
        ClientError::Unreachable { server: server.to_string(), reason }
    }

    pub(super) fn refused(status: StatusCode, body: &[u8]) -> Self {
        ClientError::Refused { status, problem: serde_json::from_slice(body).unwrap_or_default() }
    }

    /// Whether the server is away or not ready, so that trying later may help.
    pub(crate) fn is_unavailable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Refused { status, .. } => matches!(status.as_u16(), 502..=504),
            ClientError::Address { .. } | ClientError::Odd { .. } => false,
        }
    }
}

impl std::error::Error for ClientError {}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Address { server, reason } => {
                write!(f, "`{server}` is not the address of a server ({reason}); as in --server http://127.0.0.1:8080")
            }
            ClientError::Unreachable { server, reason } => write!(
                f,
                "the server at {server} cannot be reached: {reason}. Start one with `offload dev`, or name it with --server or OFFLOAD_SERVER"
            ),
            ClientError::Odd { server, reason } => {
                write!(f, "the answer of {server} is not Offload's ({reason}); is that the right server?")
            }
            ClientError::Refused { status, problem } => f.write_str(&printable_lines(&told(*status, problem))),
        }
    }
}

fn told(status: StatusCode, problem: &Problem) -> String {
    let title = problem.title.as_deref().or(status.canonical_reason()).unwrap_or("refused");
    let mut text = format!("{title} ({})", status.as_u16());
    // A summary of the errors would only say the same twice.
    let repeats = |detail: &&String| problem.errors.iter().any(|error| detail.contains(&error.detail));
    if let Some(detail) = problem.detail.as_ref().filter(|detail| !repeats(detail)) {
        // Writing to a String does not fail.
        let _ = write!(text, ": {detail}");
    }
    for error in &problem.errors {
        let place = error.pointer.as_deref().or(error.parameter.as_deref()).filter(|place| !place.is_empty());
        let (place, whole) = (place.unwrap_or_default(), place.is_none());
        let _ = match (error.line, whole) {
            (Some(line), true) => write!(text, "\n  line {line}: {}", error.detail),
            (Some(line), false) => write!(text, "\n  line {line}, {place}: {}", error.detail),
            (None, true) => write!(text, "\n  (the whole body): {}", error.detail),
            (None, false) => write!(text, "\n  {place}: {}", error.detail),
        };
    }
    text
}

fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_is_told_with_every_pointer() {
        let body = br#"{"type": "/problems/validation", "title": "The job is not valid", "status": 422,
            "detail": "2 errors", "errors": [{"pointer": "/payload/width", "detail": "is negative"},
            {"pointer": "", "detail": "is no object"}]}"#;
        let error = ClientError::refused(StatusCode::UNPROCESSABLE_ENTITY, body);
        let told =
            "The job is not valid (422): 2 errors\n  /payload/width: is negative\n  (the whole body): is no object";
        assert_eq!(error.to_string(), told);
        assert!(!error.is_unavailable());
    }

    #[test]
    fn an_answer_without_a_document_still_says_what_happened() {
        let error = ClientError::refused(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(error.to_string(), "Bad Gateway (502)");
        assert!(error.is_unavailable());
    }
}
