//! `GET /v1/files/{id}`: streams a file, or a part of it.
//!
//! The content is a user's, so a browser is told to save it rather than to show it, and never to guess its type.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::InvalidHeaderValue;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use offload_common::job::FileId;
use offload_common::store::FileRecord;
use serde_json::json;

use super::range::{Wanted, wanted};
use crate::app::App;
use crate::conditional::matches_any;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::request::TENANT;
use crate::routes::{Endpoint, Id};

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/files/{id}", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    Operation::new("downloadFile", "files", "Download a file")
        .parameter(Parameter::path("id", "The file's id.", json!({ "type": "string", "format": "uuid" })))
        .parameter(Parameter::header("Range", "One range of bytes, such as `bytes=0-1023`.", text()))
        .parameter(Parameter::header("If-Range", "Serve the range only if the file still has this `ETag`.", text()))
        .parameter(Parameter::header("If-None-Match", "An `ETag`: if the file has it, the answer is 304.", text()))
        .problems(&[
            ProblemType::NotFound,
            ProblemType::Gone,
            ProblemType::RangeNotSatisfiable,
            ProblemType::StorageUnavailable,
        ])
        .asks_the_database()
        .answer(
            Answer::of(200, "The file, under its own media type.", "*/*", json!({})).header("ETag", "Of its content."),
        )
        .answer(
            Answer::of(206, "The part that was asked for.", "*/*", json!({})).header("Content-Range", "Which part."),
        )
        .answer(Answer::empty(304, "The file is the one that `If-None-Match` names."))
}

async fn handle(
    State(app): State<Arc<App>>,
    Id(id): Id,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = FileId(id);
    let file = app.ask(app.store.file(TENANT, id)).await?;
    let file = file.ok_or_else(|| Problem::not_found(format_args!("there is no file {id}")))?;
    let etag = HeaderValue::try_from(format!("\"{}\"", file.sha256)).map_err(|_| Problem::internal())?;
    if matches_any(&headers, IF_NONE_MATCH, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    let (status, range) = match wanted(&headers, &etag, file.bytes) {
        Wanted::Whole => (StatusCode::OK, None),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Beyond => {
            let detail = format!("the file has {} bytes", file.bytes);
            let range = HeaderValue::try_from(format!("bytes */{}", file.bytes)).map_err(|_| Problem::internal())?;
            return Err(Problem::new(ProblemType::RangeNotSatisfiable, detail).header(CONTENT_RANGE, range));
        }
    };
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(app.files.content(id, range.clone()).await?),
    };
    let mut response = (status, body).into_response();
    describe_content(response.headers_mut(), &file, range.as_ref()).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(ETAG, etag);
    Ok(response)
}

fn describe_content(
    headers: &mut HeaderMap,
    file: &FileRecord,
    range: Option<&Range<u64>>,
) -> Result<(), InvalidHeaderValue> {
    let length = range.map_or(file.bytes, |range| range.end - range.start);
    let name = format!("attachment; filename=\"{}{}\"", file.id, extension(&file.content_type));
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_TYPE, file.content_type.parse()?);
    headers.insert(CONTENT_DISPOSITION, name.parse()?);
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=3600, immutable"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(Range { start, end }) = range {
        headers.insert(CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, file.bytes).parse()?);
    }
    Ok(())
}

/// What a saved file's name ends with, for the types that jobs mostly deal with.
fn extension(content_type: &str) -> &'static str {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "image/jpeg" => ".jpg",
        "image/png" => ".png",
        "image/webp" => ".webp",
        "image/avif" => ".avif",
        "application/json" => ".json",
        "application/pdf" => ".pdf",
        "text/csv" => ".csv",
        "text/plain" => ".txt",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Method;
    use offload_common::job::FileId;

    use crate::problem::ProblemType;
    use crate::testing::{Answer, TestApp, request};

    async fn stored(app: &TestApp, content_type: &str) -> String {
        let headers = [("content-type", content_type)];
        let answer = app.send(request(Method::POST, "/v1/files", &headers, Body::from("0123456789"))).await;
        answer.header("location").to_owned()
    }

    async fn read(app: &TestApp, path: &str, headers: &[(&str, &str)]) -> Answer {
        app.send(request(Method::GET, path, headers, Body::empty())).await
    }

    #[tokio::test]
    async fn a_browser_saves_a_file_and_guesses_nothing() {
        let app = TestApp::start().await;
        let path = stored(&app, "text/html").await;
        let answer = app.get(&path).await;
        assert_eq!((answer.status, answer.text()), (200, "0123456789"));
        assert_eq!(answer.header("content-type"), "text/html");
        assert_eq!(answer.header("content-length"), "10");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(answer.header("content-disposition").starts_with("attachment; filename="));
        assert!(answer.header("content-security-policy").starts_with("sandbox"));
        let picture = app.get(&stored(&app, "image/png").await).await;
        assert!(picture.header("content-disposition").ends_with(".png\""));
    }

    #[tokio::test]
    async fn a_part_is_served_while_the_file_is_the_same() {
        let app = TestApp::start().await;
        let path = stored(&app, "text/plain").await;
        let etag = app.get(&path).await.header("etag").to_owned();
        let part = read(&app, &path, &[("range", "bytes=2-5"), ("if-range", &etag)]).await;
        assert_eq!((part.status, part.text()), (206, "2345"));
        assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 2-5/10", "4"));
        let whole = read(&app, &path, &[("range", "bytes=2-5"), ("if-range", "\"other\"")]).await;
        assert_eq!((whole.status, whole.text()), (200, "0123456789"));
        let beyond = read(&app, &path, &[("range", "bytes=10-")]).await;
        beyond.problem(ProblemType::RangeNotSatisfiable);
        assert_eq!(beyond.header("content-range"), "bytes */10");
        let same = read(&app, &path, &[("if-none-match", &etag)]).await;
        assert_eq!((same.status, same.body.len()), (304, 0));
    }

    #[tokio::test]
    async fn head_tells_what_get_would() {
        let app = TestApp::start().await;
        let path = stored(&app, "text/plain").await;
        let answer = app.send(request(Method::HEAD, &path, &[], Body::empty())).await;
        assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, "10", 0));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found_and_what_was_lost_is_gone() {
        let app = TestApp::start().await;
        app.get(&format!("/v1/files/{}", FileId::new())).await.problem(ProblemType::NotFound);
        app.get("/v1/files/..%2f..%2foffload.db").await.problem(ProblemType::NotFound);
        let path = stored(&app, "text/plain").await;
        std::fs::remove_dir_all(app.folder.path().join("files")).expect("removed");
        app.get(&path).await.problem(ProblemType::Gone);
    }
}
