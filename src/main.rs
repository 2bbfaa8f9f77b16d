//! Offload's one binary: the embedded backend, the separate processes of production, and a client for both.
//!
//! This crate is the only one that knows which concrete parts exist ([`wiring`]); everything else is in the libraries.

mod cli;
mod client;
mod commands;
mod embedded;
mod exit;
mod lifecycle;
mod listen;
mod output;
mod settings;
mod telemetry;
mod wiring;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::exit::Exit;

/// How long blocking work that nobody waits for any more may hold up the end of the process.
const PARTING: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    // The one TLS provider; it fails only where one is installed already, which is then the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Exit::report(&anyhow::Error::new(error).context("the async runtime does not start")).into();
        }
    };
    let ended = runtime.block_on(commands::run(cli));
    runtime.shutdown_timeout(PARTING);
    ended.unwrap_or_else(|error| Exit::report(&error)).into()
}
