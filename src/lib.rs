//! Offload: a job backend, as one program. [`Program`] is that program; it takes kinds of jobs of your own:
//!
//! ```no_run
//! # use offload::{Context, JobError, JobKind, KindSpec};
//! struct Double;
//!
//! #[async_trait::async_trait]
//! impl JobKind for Double {
//!     type Payload = i32;
//!     type Output = i64;
//!
//!     fn spec(&self) -> KindSpec {
//!         KindSpec::new::<i32, i64>("math.double", "Doubles a number.").repeatable()
//!     }
//!
//!     async fn run(&self, _job: &Context, number: i32) -> Result<i64, JobError> {
//!         Ok(i64::from(number) * 2)
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     offload::Program::new().kind(Double).run()
//! }
//! ```
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
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use offload_worker::kind::{AnyKind, erase};

pub use offload_common::job::State;
pub use offload_common::kind::KindSpec;
pub use offload_common::store::ParentEnd;
pub use offload_worker::kind::{Context, JobError, JobKind};

use crate::exit::Exit;

/// How long blocking work that nobody waits for any more may hold up the end of the process.
const PARTING: Duration = Duration::from_millis(200);

/// The kinds that a program adds to those that ship.
type OwnKinds = [Arc<dyn AnyKind>];

/// The whole command line of Offload: every subcommand, with the kinds that ship and those that are added here.
#[derive(Default)]
pub struct Program {
    kinds: Vec<Arc<dyn AnyKind>>,
}

impl Program {
    /// With the kinds that ship.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind. Its name must be its own: a program with two of one name ends at its start, and says so.
    #[must_use]
    pub fn kind(mut self, kind: impl JobKind) -> Self {
        self.kinds.push(erase(kind));
        self
    }

    /// Reads the command line, and does what it asks for. Call it from `main`, outside of any async runtime.
    pub fn run(self) -> ExitCode {
        let cli = cli::Cli::parse();
        // The one TLS provider; it fails only where one is installed already, which is then the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return Exit::report(&anyhow::Error::new(error).context("the async runtime does not start")).into();
            }
        };
        let ended = runtime.block_on(commands::run(cli, &self.kinds));
        runtime.shutdown_timeout(PARTING);
        ended.unwrap_or_else(|error| Exit::report(&error)).into()
    }
}
