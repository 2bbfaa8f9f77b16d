//! `offload api`: the HTTP intake. It listens at once, and answers 503 until the database is there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use offload_common::config::Role;
use offload_common::retry;
use offload_common::store::Store;

use super::announce;
use crate::cli::ListenArgs;
use crate::exit::Exit;
use crate::lifecycle::Stop;
use crate::wiring::Parts;
use crate::{OwnKinds, listen, settings, telemetry};

/// The longest pause between two looks for the database.
const WATCH: Duration = Duration::from_secs(5);

/// Runs it until a signal.
pub(crate) async fn run(file: Option<&Path>, own: &OwnKinds, args: ListenArgs) -> anyhow::Result<Exit> {
    let config = settings::read(file, Role::Api, settings::listen(Role::Api, args.listen))?.config;
    telemetry::start(&config.log)?;
    let stop = Stop::on_signals()?;
    let listener = listen::bind(config.server.listen).await?;
    let parts = Parts::services(&config, own, "api").await?;
    announce("api", listener.local_addr()?)?;
    let waiting = tokio::spawn(watch(parts.store.clone()));
    listen::serve(parts.api(&config), listener, stop.clone()).await?;
    waiting.abort();
    parts.close().await;
    Ok(stop.exit())
}

/// Tells an operator what requests are waiting for, until the database is there.
async fn watch(store: Arc<dyn Store>) {
    retry::until_reached("database", WATCH, || store.ready()).await;
    tracing::info!("the database is there");
}
