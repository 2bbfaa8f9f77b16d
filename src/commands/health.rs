//! `offload health`: for health checks, where the image has no other HTTP client.

use super::client;
use crate::cli::ServerArgs;
use crate::exit::Exit;
use crate::output;

/// Asks `/readyz`.
pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<Exit> {
    client(&args)?.ready().await?;
    output::line("ready")?;
    Ok(Exit::Success)
}
