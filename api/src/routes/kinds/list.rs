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

#[cfg(test)]
mod tests {
    use offload_common::kind::KindSpec;
    use offload_common::store::{Store, WorkerInfo};
    use offload_common::testing::factory;
    use serde_json::json;

    use crate::testing::{TestApp, worker};

    #[tokio::test]
    async fn own_kinds_and_registered_ones_are_listed_and_accepted() {
        let app = TestApp::start().await;
        let kinds = app.get("/v1/kinds").await.json()["items"].clone();
        assert_eq!((kinds.as_array().map(Vec::len), &kinds[0]["name"]), (Some(1), &json!("test.kind")));
        assert_eq!(kinds[0]["live"], false);
        assert_eq!(kinds[0]["payload_schema"]["properties"]["value"]["type"], "integer");

        let foreign = KindSpec { payload_schema: json!({"type": "string"}), ..factory::kind("foreign") };
        let broken = KindSpec { payload_schema: json!({"type": "nonesuch"}), ..factory::kind("broken") };
        let info = WorkerInfo { kinds: vec![foreign, broken], ..worker() };
        let _session = app.store.join(&info).await.expect("joined");
        // Another process has not read yet, and so reads now.
        let app = TestApp { router: app.another().await.router(app.stop.clone()), ..app };
        let answer = app.post("/v1/jobs", &[], json!({"kind": "foreign", "payload": "text"})).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        assert_eq!(app.post("/v1/jobs", &[], json!({"kind": "foreign", "payload": 1})).await.status, 422);
        assert_eq!(app.post("/v1/jobs", &[], json!({"kind": "broken", "payload": 1})).await.status, 422);
        let kinds = app.get("/v1/kinds").await.json()["items"].clone();
        let names = [&kinds[0]["name"], &kinds[1]["name"]];
        assert_eq!(names, ["foreign", "test.kind"]);
        assert_eq!((&kinds[0]["live"], &kinds[1]["live"]), (&json!(true), &json!(false)));
        assert!(app.get("/openapi.json").await.json()["components"]["schemas"]["Payload.foreign"].is_object());
    }
}
