//! `offload batch`, `submit --batch`, `wait --batch`.

mod submit;
mod wait;

use super::client;
use crate::cli::{BatchCommand, ClientArgs, OneBatchArgs};
use crate::client::{Answer, BatchView};
use crate::exit::Exit;
use crate::output::{self, Table, printable};

pub(super) use submit::submit;
pub(super) use wait::wait;

/// Does what is asked for.
pub(super) async fn run(command: BatchCommand) -> anyhow::Result<Exit> {
    let (args, action) = match command {
        BatchCommand::Show(args) => (args, None),
        BatchCommand::Cancel(args) => (args, Some("cancel")),
        BatchCommand::Retry(args) => (args, Some("retry")),
        BatchCommand::Seal(args) => (args, Some("seal")),
        BatchCommand::List(args) => return list(&args.client, args.limit).await,
    };
    let OneBatchArgs { id, client: how } = args;
    let client = client(&how.server)?;
    let batch = match action {
        Some(action) => client.change_batch(id, action).await?,
        None => client.batch(id).await?,
    };
    print(&how, &batch)?;
    Ok(Exit::Success)
}

async fn list(how: &ClientArgs, limit: u32) -> anyhow::Result<Exit> {
    let batches = client(&how.server)?.batches(limit).await?;
    if how.json {
        batches.iter().try_for_each(|batch| output::line(batch.raw.get()))?;
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["ID", "TOTAL", "ENDED", "FAILED", "STATE", "ACCEPTED"]);
    for batch in batches.into_iter().map(|batch| batch.value) {
        let accepted = batch.created_at.format("%Y-%m-%d %H:%M:%S").to_string();
        let (total, ended, failed) = (batch.total, batch.ended(), batch.counts.failed);
        let state = stands(&batch).to_owned();
        table.row([batch.id.to_string(), total.to_string(), ended.to_string(), failed.to_string(), state, accepted]);
    }
    table.print()?;
    Ok(Exit::Success)
}

fn stands(batch: &BatchView) -> &'static str {
    match (batch.is_over(), batch.sealed) {
        (true, _) => "finished",
        (false, true) => "running",
        (false, false) => "open",
    }
}

/// Prints a batch the way that was asked for.
fn print(how: &ClientArgs, batch: &Answer<BatchView>) -> std::io::Result<()> {
    if how.json {
        return output::line(batch.raw.get());
    }
    let batch = &batch.value;
    let counts = &batch.counts;
    output::line(format_args!("{}  {}", batch.id, stands(batch)))?;
    output::line(format_args!(
        "  {} of {} ended: {} succeeded, {} failed, {} cancelled; {} running, {} queued, {} scheduled",
        batch.ended(),
        batch.total,
        counts.succeeded,
        counts.failed,
        counts.cancelled,
        counts.running,
        counts.queued,
        counts.scheduled
    ))?;
    match batch.eta_seconds {
        Some(left) => output::line(format_args!("  {} a second, {left:.0} s left", batch.rate))?,
        None => output::line(format_args!("  {} a second", batch.rate))?,
    }
    for failed in &batch.errors {
        let why = failed.error.as_ref().map_or(String::new(), |error| format!("{}: {}", error.code, error.message));
        output::line(format_args!("  failed {}  {}", failed.job, printable(&why)))?;
    }
    if let Some(job) = batch.follow_up_job {
        output::line(format_args!("  followed by {job}"))?;
    }
    Ok(())
}
