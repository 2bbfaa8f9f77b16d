//! `POST /v1/files`: stores a file, streaming it to the storage.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, TryStreamExt};
use offload_common::files::ByteStream;
use offload_common::job::FileId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{file_path, multipart};
use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::TENANT;
use crate::routes::Endpoint;

pub(super) const DEFAULT_TYPE: &str = "application/octet-stream";
const MAX_TYPE_LENGTH: usize = 255;

/// A stored file.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "File")]
struct FileView<'a> {
    /// Names it in payloads.
    id: FileId,
    /// Its length.
    bytes: u64,
    /// Its media type, as the upload said.
    content_type: &'a str,
    /// SHA-256 over its content, in hex.
    sha256: &'a str,
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::post("/v1/files", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let form = json!({
        "type": "object",
        "properties": { "file": { "type": "string", "format": "binary", "description": "The first part that has a file name counts." } },
    });
    Operation::new("uploadFile", "files", "Upload a file")
        .description(
            "Either the file itself as the body, with its own `Content-Type`, or a form with a file in it. It is stored \
             as it arrives, and kept only if it arrives whole.",
        )
        .body(true, json!({ "*/*": { "schema": {} }, "multipart/form-data": { "schema": form } }))
        .problems(&[
            ProblemType::MalformedRequest,
            ProblemType::ContentTooLarge,
            ProblemType::UnsupportedMediaType,
            ProblemType::Validation,
            ProblemType::StorageUnavailable,
        ])
        .asks_the_database()
        .answer(Answer::json(201, "The file is stored.", schemas.of::<FileView<'_>>()).header("Location", "The file."))
}

async fn handle(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let limit = app.files_config.max_bytes;
    let boundary = multipart::boundary(&headers)?;
    if boundary.is_none() && body.size_hint().lower() > limit {
        return Err(Problem::too_large(limit));
    }
    let (content_type, content) = match boundary {
        Some(boundary) => multipart::first_file(body, boundary).await?,
        None => (content_type(&headers)?, raw(body)),
    };
    // A task of its own: a client that goes away must not stop the storage between the content and its record. It sees
    // the stream break off, and tidies up.
    let files = app.files.clone();
    let saving = tokio::spawn({
        let content_type = content_type.clone();
        async move { files.save(TENANT, &content_type, content, limit).await }
    });
    let file = saving.await.map_err(|_| Problem::internal())??;
    let view = FileView { id: file.id, bytes: file.bytes, content_type: &file.content_type, sha256: &file.sha256 };
    Ok((StatusCode::CREATED, [(LOCATION, file_path(file.id))], Json(view)).into_response())
}

fn raw(body: Body) -> ByteStream {
    body.into_data_stream().map_err(std::io::Error::other).boxed()
}

fn content_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(DEFAULT_TYPE.to_owned()) };
    let text = value.to_str().unwrap_or_default().trim();
    checked_type(text)
}

/// A media type that is safe to give back as a header later.
pub(super) fn checked_type(text: &str) -> Result<String, Problem> {
    let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let plain = text.len() <= MAX_TYPE_LENGTH && text.bytes().all(|b| matches!(b, b' '..=b'~'));
    match essence.split_once('/') {
        Some((kind, sub)) if plain && token(kind) && token(sub) => Ok(text.to_owned()),
        _ => Err(Problem::new(ProblemType::UnsupportedMediaType, "the file's Content-Type is not a media type")),
    }
}
