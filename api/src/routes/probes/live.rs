//! `GET /livez`: whether the process runs.

use axum::Json;
use serde_json::{Value, json};

use crate::openapi::{Answer, Operation, Schemas};
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/livez", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    let status = json!({ "type": "object", "required": ["status"], "properties": { "status": { "const": "alive" } } });
    Operation::new("live", "server", "Whether the process runs")
        .description("Asks nothing of anybody: restart a process that does not answer.")
        .answer(Answer::json(200, "It runs.", status))
}

async fn handle() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}
