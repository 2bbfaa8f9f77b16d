//! The command line of `offload schedule`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ClientArgs;

const EXAMPLES: &str = "\
Examples:
  offload schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin \\
      report.render '{\"day\": \"{{fire.date}}\"}'
  offload schedule create reports --cron @daily --batch reports.ndjson
  offload schedule create probe --every 60 http.call @probe.json --overlap skip
  offload schedule preview nightly --count 5
  offload schedule pause nightly";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    pub(crate) command: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a schedule
    Create(Box<CreateArgs>),
    /// List schedules, newest first
    List(ClientArgs),
    /// Show a schedule, and what became of its last fires
    Show(OneArgs),
    /// Show when it fires next
    Preview(PreviewArgs),
    /// Submit its job or its batch now, whatever it does otherwise
    Run(OneArgs),
    /// Stop it for a while
    Pause(OneArgs),
    /// Let it fire again, from its next time on
    Resume(OneArgs),
    /// Remove it; its jobs stay
    Delete(OneArgs),
}

/// Which schedule a command is about.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// Its id, or its name
    #[arg(value_name = "SCHEDULE")]
    pub(crate) which: String,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    pub(crate) one: OneArgs,

    /// So many fires
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) count: u32,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What it is to be called
    pub(crate) name: String,

    /// The kind of its jobs; `offload kinds` lists them
    #[arg(required_unless_present = "batch")]
    pub(crate) kind: Option<String>,

    /// Their payload: JSON, @FILE to read it from a file, - to read it from standard input. Strings in it may hold
    /// {{fire.at}}, {{fire.local}}, {{fire.date}}, {{fire.time}}, {{fire.unix}}, {{schedule.id}}, {{schedule.name}}
    #[arg(default_value = "{}")]
    pub(crate) payload: String,

    /// Submit a batch each time, of the jobs in this file, one a line (NDJSON), 1000 at most. A first line {"batch": {…}} may tell
    /// their defaults, follow_up, callback and metadata
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "payload", "queue", "priority", "max_attempts", "timeout", "tags",
                                                           "unique_key"])]
    pub(crate) batch: Option<PathBuf>,

    /// A cron pattern: five fields, or six with seconds in front, or a nickname such as @hourly
    #[arg(long, value_name = "PATTERN", required_unless_present = "every")]
    pub(crate) cron: Option<String>,

    /// An interval
    #[arg(long, value_name = "SECONDS", conflicts_with = "cron")]
    pub(crate) every: Option<u64>,

    /// The IANA zone whose clocks it goes by [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,

    /// Not before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) starts_at: Option<String>,

    /// Not after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) ends_at: Option<String>,

    /// Each job is due up to so many seconds after its fire
    #[arg(long, value_name = "SECONDS")]
    pub(crate) jitter: Option<f64>,

    /// What becomes of fires that nothing was there to make [default: one]
    #[arg(long, value_parser = ["skip", "one", "all"])]
    pub(crate) missed: Option<String>,

    /// With --missed all, so many of the latest at most [default: 100]
    #[arg(long, value_name = "N")]
    pub(crate) max_missed: Option<u32>,

    /// What becomes of a fire while the job before it has not come to its end [default: skip]
    #[arg(long, value_parser = ["allow", "skip", "queue", "cancel_previous"])]
    pub(crate) overlap: Option<String>,

    /// Where its jobs queue [default: as their kind says]
    #[arg(long)]
    pub(crate) queue: Option<String>,

    /// How urgent they are within their queue
    #[arg(long, value_parser = ["high", "normal", "low"])]
    pub(crate) priority: Option<String>,

    /// Try each at most this many times
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,

    /// Seconds that one attempt may take
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,

    /// A tag to find them by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Of the jobs of the kind that have not ended, one at most has this key: a fire that finds it taken is skipped
    #[arg(long, value_name = "KEY")]
    pub(crate) unique_key: Option<String>,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}
