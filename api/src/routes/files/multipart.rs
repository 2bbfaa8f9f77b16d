//! Forms with a file in them (RFC 7578).

use std::io;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::{StreamExt, TryStreamExt};
use multer::Multipart;
use offload_common::files::{ByteStream, Error};

use super::upload;
use crate::body;
use crate::problem::{FieldError, Problem, ProblemType};

/// The boundary, if the request is a form.
pub(super) fn boundary(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !value.trim_start().to_ascii_lowercase().starts_with("multipart/") {
        return Ok(None);
    }
    let parsed = multer::parse_boundary(value).map_err(|error| {
        let detail = format!("the Content-Type of the form cannot be used: {error}");
        Problem::new(ProblemType::UnsupportedMediaType, detail)
    });
    parsed.map(Some)
}

/// The first file of the form, with its media type. Fields before it are passed over; what follows it is not read.
pub(super) async fn first_file(content: Body, boundary: String) -> Result<(String, ByteStream), Problem> {
    let malformed = |error| match interrupted(error) {
        late if late.kind() == io::ErrorKind::TimedOut => Problem::from(Error::Interrupted(late)),
        error => Problem::new(ProblemType::MalformedRequest, format_args!("the form is malformed: {error}")),
    };
    let mut form = Multipart::new(body::pieces(content, body::IDLE), boundary);
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        if field.file_name().is_none() {
            continue;
        }
        let content_type = field.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let content_type = upload::checked_type(content_type.unwrap_or(upload::DEFAULT_TYPE))?;
        return Ok((content_type, field.map_err(interrupted).boxed()));
    }
    Err(Problem::validation(vec![FieldError::at("", "the form has no file: no part of it has a file name")]))
}

/// What went wrong with the form's own stream, or with the form.
fn interrupted(error: multer::Error) -> io::Error {
    match error {
        multer::Error::StreamReadFailed(source) => source.downcast().map_or_else(io::Error::other, |error| *error),
        error => io::Error::other(error),
    }
}
