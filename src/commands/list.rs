//! `offload list`: jobs that match, newest first.

use super::client;
use crate::cli::ListArgs;
use crate::exit::Exit;
use crate::output::{self, Table};

/// Lists jobs.
pub(crate) async fn run(args: ListArgs) -> anyhow::Result<Exit> {
    let given = [
        ("state", args.state),
        ("kind", args.kind),
        ("queue", args.queue),
        ("tag", args.tag),
        ("created_after", args.created_after),
        ("created_before", args.created_before),
    ];
    let filter: Vec<(&str, String)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let jobs = client(&args.client.server)?.jobs(&filter, args.limit).await?;
    if args.client.json {
        for job in &jobs {
            output::line(job.raw.get())?;
        }
        return Ok(Exit::Success);
    }
    let mut table = Table::new(["ID", "KIND", "QUEUE", "STATE", "ATTEMPT", "ACCEPTED"]);
    for job in jobs.into_iter().map(|job| job.value) {
        let accepted = job.created_at.format("%Y-%m-%d %H:%M:%S").to_string();
        let attempt = format!("{}/{}", job.attempt, job.max_attempts);
        table.row([job.id.to_string(), job.kind, job.queue, job.state.to_string(), attempt, accepted]);
    }
    table.print()?;
    Ok(Exit::Success)
}
