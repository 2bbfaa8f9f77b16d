//! `offload worker`: runs jobs. It waits for a database and a broker that are not there yet.

use std::path::Path;

use offload_common::config::{Override, Role};
use offload_worker::probes;

use super::announce;
use crate::cli::WorkerArgs;
use crate::exit::Exit;
use crate::lifecycle::{self, Stop};
use crate::wiring::Parts;
use crate::{OwnKinds, listen, settings, telemetry};

/// Runs it until a signal.
pub(crate) async fn run(file: Option<&Path>, own: &OwnKinds, args: WorkerArgs) -> anyhow::Result<Exit> {
    let config = settings::read(file, Role::Worker, flags(args))?.config;
    telemetry::start(&config.log)?;
    let stop = Stop::on_signals()?;
    let listener = match config.worker.listen {
        Some(address) => Some(listen::bind(address).await?),
        None => None,
    };
    let parts = Parts::services(&config, own, "worker").await?;
    let worker = parts.worker(&config);
    if let Some(listener) = listener {
        announce("worker", listener.local_addr()?)?;
        tokio::spawn(probes::serve(listener, worker.probes(), stop.halt.clone()));
    }
    let ended = worker.run(stop.signals()).await;
    parts.close().await;
    lifecycle::worker_ended(ended)?;
    Ok(stop.exit())
}

fn flags(args: WorkerArgs) -> Vec<Override> {
    let mut flags = settings::listen(Role::Worker, args.listen);
    if let Some(slots) = args.slots {
        flags.push(Override { flag: "--slots", key: "worker.slots", value: i64::from(slots).into() });
    }
    if !args.queues.is_empty() {
        flags.push(Override { flag: "--queue", key: "worker.queues", value: args.queues.into() });
    }
    flags
}
