//! `POST /v1/files`: stores a file, streaming it to the storage.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use offload_common::job::FileId;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{file_path, multipart};
use crate::app::App;
use crate::body;
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
        "properties": { "file": { "type": "string", "format": "binary", "description": "The one part that has a file name." } },
    });
    Operation::new("uploadFile", "files", "Upload a file")
        .description(
            "Either the file itself as the body, with its own `Content-Type`, or a form with a file in it. It is stored \
             as it arrives, and kept only if it arrives whole.",
        )
        .body(true, json!({ "*/*": { "schema": {} }, "multipart/form-data": { "schema": form } }))
        .problems(&[
            ProblemType::MalformedRequest,
            ProblemType::RequestTimeout,
            ProblemType::ContentTooLarge,
            ProblemType::UnsupportedMediaType,
            ProblemType::Validation,
            ProblemType::StorageUnavailable,
        ])
        .asks_the_database()
        .answer(Answer::json(201, "The file is stored.", schemas.of::<FileView<'_>>()).header("Location", "The file."))
}

async fn handle(State(app): State<Arc<App>>, headers: HeaderMap, content: Body) -> Result<Response, Problem> {
    let limit = app.files_config.max_bytes;
    body::not_encoded(&headers)?;
    let boundary = multipart::boundary(&headers)?;
    if boundary.is_none() && content.size_hint().lower() > limit {
        return Err(Problem::too_large(limit));
    }
    let (content_type, content) = match boundary {
        Some(boundary) => multipart::only_file(content, boundary).await?,
        None => (content_type(&headers)?, body::pieces(content, body::IDLE).boxed()),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::body::{Body, Bytes};
    use axum::http::Method;
    use futures_util::{StreamExt, stream};
    use offload_common::store::Store;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::{Answer, TestApp, request};

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    async fn upload(app: &TestApp, content_type: Option<&str>, body: impl Into<Body>) -> Answer {
        let headers: Vec<_> = content_type.map(|value| ("content-type", value)).into_iter().collect();
        app.send(request(Method::POST, "/v1/files", &headers, body.into())).await
    }

    fn files_in(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").path());
        entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
    }

    fn nothing_is_left(app: &TestApp) {
        assert_eq!(files_in(&app.folder.path().join("files")), 0);
    }

    #[tokio::test]
    async fn a_body_is_stored_under_its_own_type() {
        let app = TestApp::start().await;
        for (sent, kept) in [
            (Some("text/plain; charset=utf-8"), "text/plain; charset=utf-8"),
            (Some("application/json"), "application/json"),
            (None, "application/octet-stream"),
        ] {
            let answer = upload(&app, sent, "hello").await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            let file = answer.json();
            assert_eq!(file, json!({"id": file["id"], "bytes": 5, "content_type": kept, "sha256": HELLO}));
            let read = app.get(answer.header("location")).await;
            assert_eq!((read.text(), read.header("content-type")), ("hello", kept));
        }
        assert_eq!(upload(&app, None, "").await.json()["bytes"], 0);
    }

    #[tokio::test]
    async fn the_file_of_a_form_is_stored() {
        let app = TestApp::start().await;
        let form = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnot a file\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"upload\"; filename=\"a.txt\"\r\n\
                    Content-Type: text/plain\r\n\r\nhello\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"more\"\r\n\r\nnot a file\r\n--b--\r\n";
        let answer = upload(&app, Some("multipart/form-data; boundary=b"), form).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!((&answer.json()["sha256"], &answer.json()["content_type"]), (&json!(HELLO), &json!("text/plain")));
    }

    #[tokio::test]
    async fn a_form_that_is_none_is_refused() {
        let app = TestApp::start().await;
        let no_file = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n--b--\r\n";
        let cut = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhel";
        let bad_type = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\nContent-Type: x\r\n\r\nx\r\n--b--\r\n";
        let two = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhello\r\n\
                   --b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nnot a file\r\n\
                   --b\r\nContent-Disposition: form-data; name=\"g\"; filename=\"g\"\r\n\r\nlost\r\n--b--\r\n";
        for (content_type, body, expected) in [
            ("multipart/form-data", no_file, ProblemType::UnsupportedMediaType),
            ("multipart/form-data; boundary=b", no_file, ProblemType::Validation),
            ("multipart/form-data; boundary=b", cut, ProblemType::MalformedRequest),
            ("multipart/form-data; boundary=b", "", ProblemType::MalformedRequest),
            ("multipart/form-data; boundary=b", "nonsense", ProblemType::MalformedRequest),
            ("multipart/form-data; boundary=b", bad_type, ProblemType::UnsupportedMediaType),
            ("multipart/form-data; boundary=b", two, ProblemType::MalformedRequest),
            ("nonsense", "hello", ProblemType::UnsupportedMediaType),
            ("text/", "hello", ProblemType::UnsupportedMediaType),
        ] {
            upload(&app, Some(content_type), body).await.problem(expected);
        }
        nothing_is_left(&app);
    }

    #[tokio::test]
    async fn a_file_over_the_limit_leaves_nothing() {
        let app = TestApp::start_with(|settings| settings.files.max_bytes = 10).await;
        assert_eq!(upload(&app, None, "0123456789").await.status, 201);
        let stored = files_in(&app.folder.path().join("files"));
        let problem = upload(&app, None, "0123456789x").await.problem(ProblemType::ContentTooLarge);
        assert_eq!(problem["limit_bytes"], 10);
        let pieces = stream::iter((0..5).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"0123"))));
        upload(&app, None, Body::from_stream(pieces)).await.problem(ProblemType::ContentTooLarge);
        let form = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n0123456789x\r\n--b--\r\n";
        let answer = upload(&app, Some("multipart/form-data; boundary=b"), form).await;
        answer.problem(ProblemType::ContentTooLarge);
        assert_eq!(files_in(&app.folder.path().join("files")), stored);
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_leaves_nothing() {
        let app = TestApp::start().await;
        let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))]);
        upload(&app, None, Body::from_stream(broken)).await.problem(ProblemType::MalformedRequest);
        nothing_is_left(&app);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_written_leaves_nothing() {
        let app = TestApp::start().await;
        let store = app.store.clone();
        let closing = stream::once(async move {
            store.close().await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"hello"))
        });
        upload(&app, None, Body::from_stream(closing.boxed())).await.problem(ProblemType::DatabaseUnavailable);
        nothing_is_left(&app);
    }
}
