//! What tells from outside how a worker is doing: `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use offload_common::broker::Broker;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::delivery::Inbox;
use crate::engine::Engine;
pub use crate::maintenance::LoopStatus;
use crate::maintenance::Loops;
use crate::run::Standing;

/// Tells how a worker is doing.
#[derive(Clone)]
pub struct Probes {
    engine: Arc<Engine>,
    inbox: Arc<Inbox>,
    broker: Arc<dyn Broker>,
    loops: Loops,
    draining: CancellationToken,
}

/// What `/readyz` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Readiness {
    /// Whether it takes jobs.
    pub ready: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The id that it goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Jobs that have been delivered and wait for a slot.
    pub waiting: usize,
    /// Jobs that run here.
    pub running: usize,
    /// How many of them are claimed.
    pub claimed: usize,
    /// Messages that were not Offload's, and that it has set aside.
    pub parked: u64,
    /// How its upkeep is doing.
    pub upkeep: BTreeMap<&'static str, LoopStatus>,
}

impl Probes {
    pub(crate) fn new(
        engine: Arc<Engine>,
        inbox: Arc<Inbox>,
        broker: Arc<dyn Broker>,
        loops: Loops,
        draining: CancellationToken,
    ) -> Self {
        Self { engine, inbox, broker, loops, draining }
    }

    /// Why it is to be restarted, if it is: a part of it has died, or it lets work wait that it has room for. A database
    /// or a broker that is away is no reason.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let dead = self.engine.vitals.dead().map(|part| format!("{part} has died"));
        dead.or_else(|| self.engine.watchdog.complaint())
    }

    /// Whether it takes jobs, and what it does.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let worker = match self.engine.runs.standing() {
            Standing::Member(membership) => Some(membership.worker.to_string()),
            Standing::Outside => None,
        };
        let reason = if self.draining.is_cancelled() {
            Some("it is draining")
        } else if worker.is_none() {
            Some("it cannot reach the database")
        } else {
            None
        };
        let (running, claimed) = self.engine.runs.count();
        let (waiting, parked, upkeep) = (self.inbox.len(), self.broker.parked(), self.loops.status());
        Readiness { ready: reason.is_none(), reason, worker, waiting, running, claimed, parked, upkeep }
    }
}

/// Serves `/livez` (200 unless it is to be restarted, else 503 and why) and `/readyz` (200 while it takes jobs, else 503 and why) until
/// `shutdown` fires.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(listener: TcpListener, probes: Probes, shutdown: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    axum::serve(listener, routes.with_state(probes)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn livez(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.complaint() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(complaint) => (StatusCode::SERVICE_UNAVAILABLE, format!("{complaint}\n")),
    }
}

async fn readyz(State(probes): State<Probes>) -> (StatusCode, Json<Readiness>) {
    let readiness = probes.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
