//! The embedded backend: the API and a worker, composed in one process from what the separate processes run.

use std::net::SocketAddr;

use anyhow::Context;
use offload_api::Api;
use offload_common::config::Config;
use tokio::task::JoinHandle;

use crate::lifecycle::{self, Stop};
use crate::wiring::Parts;
use crate::{OwnKinds, listen};

/// A backend that runs.
pub(crate) struct Embedded {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    api: JoinHandle<std::io::Result<()>>,
    worker: JoinHandle<offload_worker::Exit>,
    stop: Stop,
    parts: Parts,
}

impl Embedded {
    /// Starts it, until `stop` fires.
    ///
    /// # Errors
    /// Where its folder or its address cannot be used.
    pub(crate) async fn start(config: &Config, own: &OwnKinds, stop: &Stop) -> anyhow::Result<Self> {
        let listener = listen::bind(config.server.listen).await?;
        let address = listener.local_addr()?;
        let parts = Parts::embedded(config, own).await?;
        parts.store.migrate().await.context("the embedded database cannot be brought up to date")?;
        let api = tokio::spawn(listen::serve(Api { demo: true, ..parts.api(config) }, listener, stop.clone()));
        let worker = tokio::spawn(parts.worker(config).run(stop.signals()));
        Ok(Self { address, api, worker, stop: stop.clone(), parts })
    }

    /// Waits until both have stopped, and closes the database.
    ///
    /// # Errors
    /// Where one of them ended by itself.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        let worker = async {
            let ended = self.worker.await;
            // The API is of no use without it.
            self.stop.drain.cancel();
            ended
        };
        let (api, worker) = tokio::join!(self.api, worker);
        self.parts.close().await;
        api.context("the API panicked")?.context("the API cannot serve")?;
        lifecycle::worker_ended(worker.context("the worker panicked")?)
    }
}
