//! Forms with a file in them (RFC 7578).

use std::io;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use multer::{Field, Multipart};
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

/// The file of the form, with its media type. Fields beside it are passed over; a second file breaks the first off, so that
/// none is lost without a word.
pub(super) async fn only_file(content: Body, boundary: String) -> Result<(String, ByteStream), Problem> {
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
        let content = stream::try_unfold((form, Some(field)), |(form, field)| next_piece(form, field));
        return Ok((content_type, content.boxed()));
    }
    Err(Problem::validation(vec![FieldError::at("", "the form has no file: no part of it has a file name")]))
}

/// The next piece of the file, and then of what the form has behind it: nothing.
async fn next_piece(
    mut form: Multipart<'static>,
    mut field: Option<Field<'static>>,
) -> io::Result<Option<(Bytes, (Multipart<'static>, Option<Field<'static>>))>> {
    if let Some(file) = &mut field {
        if let Some(piece) = file.chunk().await.map_err(interrupted)? {
            return Ok(Some((piece, (form, field))));
        }
        // The form goes on only once nobody holds the field.
        drop(field);
    }
    while let Some(other) = form.next_field().await.map_err(interrupted)? {
        if other.file_name().is_some() {
            return Err(io::Error::other("it has a second file; send each in a request of its own"));
        }
    }
    Ok(None)
}

/// What went wrong with the form's own stream, or with the form.
fn interrupted(error: multer::Error) -> io::Error {
    match error {
        multer::Error::StreamReadFailed(source) => source.downcast().map_or_else(io::Error::other, |error| *error),
        error => io::Error::other(error),
    }
}
