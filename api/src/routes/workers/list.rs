//! `GET /v1/workers`: the live workers.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use offload_common::job::WorkerId;
use offload_common::store::Worker;
use schemars::JsonSchema;
use serde::Serialize;

use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::paging;
use crate::problem::Problem;
use crate::routes::Endpoint;
use crate::timestamp::Timestamp;

/// A worker.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Worker")]
struct WorkerView<'a> {
    /// One life of a worker process.
    id: WorkerId,
    /// The host's name.
    host: &'a str,
    /// The process id there.
    pid: u32,
    /// The program's version.
    version: &'a str,
    /// How many jobs it runs at once.
    slots: u32,
    /// The jobs that it holds now, except those that have only just begun.
    running: u64,
    /// The queues it serves.
    queues: &'a [String],
    /// The kinds it offers.
    kinds: &'a [String],
    /// When it joined.
    started_at: Timestamp,
    /// When it was last heard of.
    beat_at: Timestamp,
}

impl<'a> From<&'a Worker> for WorkerView<'a> {
    fn from(worker: &'a Worker) -> Self {
        Self {
            id: worker.id,
            host: &worker.host,
            pid: worker.pid,
            version: &worker.version,
            slots: worker.slots,
            running: worker.running,
            queues: &worker.queues,
            kinds: &worker.kinds,
            started_at: worker.started_at.into(),
            beat_at: worker.beat_at.into(),
        }
    }
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/workers", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    Operation::new("listWorkers", "fleet", "List the live workers").asks_the_database().answer(Answer::json(
        200,
        "The workers.",
        schemas.items_of::<WorkerView<'_>>(),
    ))
}

async fn handle(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let workers = app.ask(app.store.workers()).await?;
    Ok(paging::whole(workers.iter().map(WorkerView::from).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::TestApp;

    #[tokio::test]
    async fn a_worker_is_listed_with_what_it_runs() {
        let app = TestApp::start().await;
        assert_eq!(app.get("/v1/workers").await.json(), json!({"items": []}));
        let id = app.submit(json!({})).await;
        let (session, _lease) = app.claim(id).await;
        let worker = app.get("/v1/workers").await.json()["items"][0].clone();
        assert_eq!(worker["id"], session.worker().to_string());
        assert_eq!((&worker["running"], &worker["kinds"]), (&json!(1), &json!(["test.kind"])));
        assert!(worker["beat_at"].as_str().is_some_and(|time| time.ends_with('Z')));
    }
}
