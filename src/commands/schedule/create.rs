//! `offload schedule create`.

use crate::cli::CreateArgs;
use crate::client::{NewSchedule, Submission};
use crate::commands::{client, submit};

/// Makes a schedule.
pub(super) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    let job = Submission {
        queue: args.queue,
        priority: args.priority,
        max_attempts: args.max_attempts,
        timeout_seconds: args.timeout,
        tags: args.tags,
        unique_key: args.unique_key,
        ..Submission::new(&args.kind, submit::payload::read(&args.payload)?)
    };
    let new = NewSchedule {
        name: args.name,
        cron: args.cron,
        every_seconds: args.every,
        time_zone: args.time_zone,
        starts_at: args.starts_at,
        ends_at: args.ends_at,
        jitter_seconds: args.jitter,
        missed: args.missed,
        max_missed: args.max_missed,
        overlap: args.overlap,
        job,
    };
    let made = client(&args.client.server)?.create_schedule(&new).await?;
    Ok(super::print(&args.client, &made)?)
}
