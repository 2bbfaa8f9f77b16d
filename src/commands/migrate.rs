//! `offload migrate`: brings the database's schema up to date.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use offload_common::clock;
use offload_common::config::Role;
use offload_common::store::{Error, Store};

use crate::cli::MigrateArgs;
use crate::exit::Exit;
use crate::{output, settings, telemetry, wiring};

/// The pause between two tries to reach the database.
const PAUSE: Duration = Duration::from_millis(500);

/// Migrates; waits for a database that is not there yet.
pub(crate) async fn run(file: Option<&Path>, args: MigrateArgs) -> anyhow::Result<Exit> {
    let config = settings::read(file, Role::Api, Vec::new())?.config;
    telemetry::start(&config.log)?;
    let store = wiring::postgres(&config, &wiring::instance("migrate"))?;
    let begun = clock::instant();
    let applied = loop {
        match store.migrate().await {
            Err(Error::Unavailable(reason)) if begun.elapsed() < Duration::from_secs(args.wait) => {
                tracing::info!(reason, "waiting for the database");
                tokio::time::sleep(PAUSE).await;
            }
            tried => break tried.with_context(|| format!("migration, after {} s", begun.elapsed().as_secs()))?,
        }
    };
    store.close().await;
    for name in &applied {
        output::line(format_args!("applied {name}"))?;
    }
    output::line("the database is up to date")?;
    Ok(Exit::Success)
}
