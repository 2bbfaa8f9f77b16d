//! The command line of batches.

use clap::{Args, Subcommand};
use offload_common::job::BatchId;

use super::ClientArgs;

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: BatchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Show how far a batch has come
    Show(OneBatchArgs),
    /// Cancel what is not final of a batch
    Cancel(OneBatchArgs),
    /// Run again what failed of a batch, as new jobs in it
    Retry(OneBatchArgs),
    /// Take no more jobs into an open batch
    Seal(OneBatchArgs),
    /// List batches, newest first
    List(BatchListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OneBatchArgs {
    /// The batch's id
    pub(crate) id: BatchId,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BatchListArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
