//! `GET /v1/queues`: the queues, and how full they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use offload_common::job::Priority;
use offload_common::store::LaneDepth;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::paging;
use crate::problem::Problem;
use crate::routes::Endpoint;

/// A queue.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
struct QueueView<'a> {
    /// Its name.
    name: &'a str,
    /// Jobs that wait for a worker, by priority; counted up to the window that the broker holds.
    queued: BTreeMap<&'static str, u64>,
    /// Whether more jobs are due than the broker holds.
    backlog: bool,
}

impl<'a> QueueView<'a> {
    fn new(name: &'a str, depths: &[LaneDepth]) -> Self {
        let lanes = || depths.iter().filter(|depth| depth.lane.queue == name);
        let queued = |priority| lanes().filter(|depth| depth.lane.priority == priority).map(|depth| depth.queued).sum();
        Self {
            name,
            queued: Priority::ALL.into_iter().map(|priority| (priority.as_str(), queued(priority))).collect(),
            backlog: lanes().any(|depth| depth.backlog),
        }
    }
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/queues", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("listQueues", "fleet", "List the queues").asks_the_database().answer(Answer::json(
        200,
        "The queues, by name.",
        schemas.items_of::<QueueView<'_>>(),
    ))
}

async fn handle(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let depths = app.ask(app.store.depths(app.jobs.window)).await?;
    Ok(paging::whole(app.queues.iter().map(|name| QueueView::new(name, &depths)).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::TestApp;

    #[tokio::test]
    async fn every_queue_is_listed_with_what_waits_in_it() {
        let app = TestApp::start().await;
        app.submit(json!({"queue": "reports", "priority": "high"})).await;
        app.submit(json!({"queue": "reports", "priority": "low", "delay_seconds": 60})).await;
        let empty = json!({"high": 0, "normal": 0, "low": 0});
        let expected = json!({"items": [
            {"name": "default", "queued": empty, "backlog": false},
            {"name": "reports", "queued": {"high": 1, "normal": 0, "low": 0}, "backlog": false},
        ]});
        assert_eq!(app.get("/v1/queues").await.json(), expected);
    }
}
