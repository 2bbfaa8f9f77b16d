//! `offload kinds`: what the server accepts.

use super::client;
use crate::cli::KindsArgs;
use crate::exit::Exit;
use crate::output::{self, Table};

/// Lists the kinds of jobs.
pub(crate) async fn run(args: KindsArgs) -> anyhow::Result<Exit> {
    let kinds = client(&args.client.server)?.kinds().await?;
    if args.client.json {
        for kind in &kinds {
            output::line(kind.raw.get())?;
        }
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["KIND", "QUEUE", "WORKERS", "WHAT IT DOES"]);
    for kind in kinds.into_iter().map(|kind| kind.value) {
        let live = if kind.live { "live" } else { "none" };
        table.row([kind.name, kind.queue, live.to_owned(), kind.description]);
    }
    table.print()?;
    Ok(Exit::Success)
}
