//! Forms with a file in them (RFC 7578).

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::{StreamExt, TryStreamExt};
use multer::Multipart;
use offload_common::files::ByteStream;

use super::upload;
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
pub(super) async fn first_file(body: Body, boundary: String) -> Result<(String, ByteStream), Problem> {
    let malformed = |error| Problem::new(ProblemType::MalformedRequest, format_args!("the form is malformed: {error}"));
    let mut form = Multipart::new(body.into_data_stream(), boundary);
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        if field.file_name().is_none() {
            continue;
        }
        let content_type = field.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let content_type = upload::checked_type(content_type.unwrap_or(upload::DEFAULT_TYPE))?;
        return Ok((content_type, field.map_err(std::io::Error::other).boxed()));
    }
    Err(Problem::validation(vec![FieldError::at("", "the form has no file: no part of it has a file name")]))
}
