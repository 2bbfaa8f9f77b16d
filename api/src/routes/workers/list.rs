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
