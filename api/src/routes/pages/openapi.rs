//! `GET /openapi.json`: the API's description for programs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;

use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas, openapi};
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/openapi.json", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    Operation::new("openapi", "server", "This document")
        .description("OpenAPI 3.1, with the payload schema of every kind that is known now.")
        .answer(Answer::json(200, "The document.", json!({ "type": "object" })))
}

async fn handle(State(app): State<Arc<App>>) -> Response {
    let known = app.catalog.known().await;
    let document = known.openapi.get_or_init(|| {
        let specs: Vec<_> = known.kinds.iter().cloned().collect();
        Bytes::from(openapi(&specs).to_string())
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, document.clone()).into_response()
}
