//! `GET /v1/kinds`: every kind that intake accepts.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use offload_common::kind::KindSpec;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::paging;
use crate::routes::Endpoint;

/// A kind of job.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Kind")]
struct KindView<'a> {
    #[serde(flatten)]
    spec: &'a KindSpec,
    /// Whether a live worker offers it now.
    live: bool,
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/kinds", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("listKinds", "fleet", "List the kinds of jobs")
        .description("Every kind that is accepted, by name: built in, configured, or ever registered by a worker.")
        .answer(Answer::json(200, "The kinds.", schemas.items_of::<KindView<'_>>()))
}

async fn handle(State(app): State<Arc<App>>) -> Response {
    let known = app.catalog.known().await;
    let kinds = known.kinds.iter().map(|spec| KindView { spec, live: known.is_live(&spec.name) });
    paging::whole(kinds.collect())
}
