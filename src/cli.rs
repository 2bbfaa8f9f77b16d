//! The command line.

mod batch;
mod schedule;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use offload_common::job::{BatchId, JobId};

use crate::exit;
pub(crate) use schedule::{CreateArgs, OneArgs, PreviewArgs, ScheduleArgs, ScheduleCommand};

pub(crate) use batch::{BatchArgs, BatchCommand, OneBatchArgs};

const EXAMPLES: &str = "\
Examples:
  offload                                    start the embedded backend (the same as `offload dev`)
  offload demo                               see it work, on sample files
  offload submit echo '{\"value\": 1}' --wait  run a job, and print what it came to
  offload list --state failed                what went wrong lately";

/// A job backend: HTTP in, a database remembers, a broker carries, workers run.
#[derive(Debug, Parser)]
#[command(name = "offload", version, after_help = format!("{EXAMPLES}\n\n{}", exit::HELP), max_term_width = 120)]
pub(crate) struct Cli {
    /// The configuration file [default: offload.toml in the working directory, if there is one; env: OFFLOAD_CONFIG]
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub(crate) config: Option<PathBuf>,

    /// What to do; `dev` unless said
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the embedded backend: API and worker in one process, nothing else needed
    Dev(DevArgs),
    /// Start the HTTP API (needs DATABASE_URL and AMQP_URL)
    Api(ListenArgs),
    /// Start a worker (needs DATABASE_URL and AMQP_URL)
    Worker(WorkerArgs),
    /// Bring the database's schema up to date (needs DATABASE_URL)
    Migrate(MigrateArgs),
    /// Check that a database keeps what Offload promises: read-only, also in production
    Verify(VerifyArgs),
    /// Run every kind of job on sample files, and show what comes of it
    Demo(DemoArgs),
    /// Submit a job, or a file of them
    Submit(Box<SubmitArgs>),
    /// Show a job
    Status(StatusArgs),
    /// Wait until jobs are final
    Wait(WaitArgs),
    /// Show, cancel or repeat batches
    Batch(BatchArgs),
    /// Cancel jobs, also while they run
    Cancel(CancelArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Make, see and steer schedules: jobs that are submitted again and again
    Schedule(ScheduleArgs),
    /// List the kinds of jobs that the server accepts
    Kinds(KindsArgs),
    /// Print the OpenAPI document, with the kinds of this configuration; needs no server
    Openapi,
    /// Print the configuration that is in force, secrets redacted
    Config(ConfigArgs),
    /// Ask a server whether it is ready: for health checks
    Health(ServerArgs),
}

#[derive(Debug, Default, Args)]
pub(crate) struct ListenArgs {
    /// Where to listen; port 0 takes a free one [env: OFFLOAD_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(
    after_help = "Its data stays in the data folder; remove the folder to start afresh. DATABASE_URL, AMQP_URL and \
                        FILES_URL are not looked at."
)]
pub(crate) struct DevArgs {
    #[command(flatten)]
    pub(crate) listen: ListenArgs,

    /// The folder of its database and files [default: .offload] [env: OFFLOAD_DATA]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Start as many as there is work for, on as many machines as you like. SIGTERM drains: nothing new is taken, \
                        running jobs get worker.drain_seconds to end, the rest is handed back."
)]
pub(crate) struct WorkerArgs {
    /// Where to answer /livez and /readyz; nowhere unless told [env: OFFLOAD_LISTEN]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,

    /// Jobs at once [default: worker.slots, 64]
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<u32>,

    /// Serve only this queue; may be given several times [default: all]
    #[arg(long = "queue", value_name = "QUEUE")]
    pub(crate) queues: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Wait this long for a database that is not there yet
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) wait: u64,
}

const VERIFY_HELP: &str = "\
It reads the configuration that the workers run by, and DATABASE_URL. What can look wrong for a moment in good order (a \
worker has just died) is watched, so an audit may take as long as --watch says; where nothing looks wrong it does not.

Exit codes: 0 nothing is wrong; 1 something is, or the audit did not work; 2 usage; 69 the database is away.

Examples:
  offload verify                                     the database that DATABASE_URL names
  offload verify --data .offload                     the one of `offload dev`, also while that runs
  offload verify --state /var/lib/offload.verify     compare with what the audit before saw
  jq -r .id accepted.log | offload verify --accepted -
  offload verify --ledger invoices.job_id --ledger-kind invoice.total --json";

#[derive(Debug, Args)]
#[command(after_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// The folder of an embedded database, to check that one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// A job that waits for longer than this has a reason
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) overdue: u64,

    /// What has looked wrong for this long is wrong [default: the longer one of worker.lease_seconds and
    /// worker.drain_seconds, and 10 more]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) watch: Option<u64>,

    /// Ids that clients were answered, one per line, - for standard input: each must be there
    #[arg(long, value_name = "FILE")]
    pub(crate) accepted: Option<PathBuf>,

    /// A column in which each job leaves its id by the transaction that finishes it: one row for each that succeeded
    #[arg(long, value_name = "[SCHEMA.]TABLE.COLUMN")]
    pub(crate) ledger: Option<String>,

    /// The kind of jobs that write the ledger [default: all]
    #[arg(long, value_name = "KIND", requires = "ledger")]
    pub(crate) ledger_kind: Option<String>,

    /// What this audit sees goes into this file, and is held against what the one before saw
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,

    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many images to make thumbnails of
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) images: usize,

    /// Where its data and its output go [default: a new folder in .offload]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Stay up afterwards, and print the address
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Which server a client command talks to.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's address [default: http://127.0.0.1:8080] [env: OFFLOAD_SERVER]; OFFLOAD_KEY, if set, goes along as a
    /// bearer token
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
}

/// How a client command prints.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,

    /// Print JSON as the server gave it, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

const SUBMIT_EXAMPLES: &str = "\
Examples:
  offload submit echo '{\"value\": \"hello\"}' --wait
  offload submit report.render @report.json --priority high --delay 3600
  generate | offload submit http.call - --tag nightly
  offload submit --batch jobs.ndjson --idempotency-key night-17 --wait
  offload submit image.transform --file source=photo.jpg --wait \\
      '{\"outputs\": [{\"name\": \"copy\", \"format\": \"webp\"}]}'";

#[derive(Debug, Args)]
#[command(after_help = SUBMIT_EXAMPLES)]
pub(crate) struct SubmitArgs {
    /// The kind of job; `offload kinds` lists them
    #[arg(required_unless_present = "batch")]
    pub(crate) kind: Option<String>,

    /// The payload: JSON, @FILE to read it from a file, - to read it from standard input
    #[arg(default_value = "{}")]
    pub(crate) payload: String,

    /// Submit a file with a job a line (NDJSON) as one batch: all of them, or none. Sent again under the same key if it is cut
    /// off
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "payload", "files", "queue", "priority", "delay", "run_at",
                                                           "max_attempts", "timeout", "tags", "unique_key", "after"])]
    pub(crate) batch: Option<PathBuf>,

    /// With --batch: accept the good jobs where some are bad
    #[arg(long, requires = "batch")]
    pub(crate) partial: bool,

    /// Upload a file, and put {"file": its id} into this field of the payload; may be given several times
    #[arg(long = "file", value_name = "FIELD=PATH")]
    pub(crate) files: Vec<String>,

    /// Where it queues [default: as its kind says]
    #[arg(long)]
    pub(crate) queue: Option<String>,

    /// How urgent it is within its queue
    #[arg(long, value_parser = ["high", "normal", "low"])]
    pub(crate) priority: Option<String>,

    /// Not before this many seconds have passed
    #[arg(long, value_name = "SECONDS", conflicts_with = "run_at")]
    pub(crate) delay: Option<f64>,

    /// Not before this time (RFC 3339, such as 2026-12-24T18:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<String>,

    /// Try at most this many times
    #[arg(long, value_name = "N")]
    pub(crate) max_attempts: Option<u32>,

    /// Seconds that one attempt may take
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,

    /// A tag to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,

    /// Of the jobs of the kind that have not ended, one at most has this key
    #[arg(long, value_name = "KEY")]
    pub(crate) unique_key: Option<String>,

    /// Where another job has the unique key: print that one, cancel it unless it runs, or fail [default: return]
    #[arg(long, requires = "unique_key", value_parser = ["return", "replace", "refuse"])]
    pub(crate) on_conflict: Option<String>,

    /// Run it only once this job has ended; may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) after: Vec<JobId>,

    /// When a job that it runs after does not succeed: cancel it, or run it all the same once all have ended
    #[arg(long, value_name = "POLICY", value_parser = ["cancel", "run"], requires = "after")]
    pub(crate) after_policy: Option<String>,

    /// Submitting again with the same key gives the same job
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,

    /// Wait until the job is final, at most this long, and print what it came to
    #[arg(long, value_name = "SECONDS", num_args = 0..=1)]
    pub(crate) wait: Option<Option<u64>>,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The job's id
    pub(crate) id: JobId,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The jobs' ids
    #[arg(required_unless_present = "batch", value_name = "ID")]
    pub(crate) ids: Vec<JobId>,

    /// Wait for all jobs of this batch instead
    #[arg(long, value_name = "ID", conflicts_with = "ids")]
    pub(crate) batch: Option<BatchId>,

    /// Wait at most this long [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<u64>,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The jobs' ids
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<JobId>,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only in this state
    #[arg(long, value_parser = ["scheduled", "queued", "running", "succeeded", "failed", "cancelled"])]
    pub(crate) state: Option<String>,

    /// Only of this kind
    #[arg(long)]
    pub(crate) kind: Option<String>,

    /// Only in this queue
    #[arg(long)]
    pub(crate) queue: Option<String>,

    /// Only with this tag
    #[arg(long)]
    pub(crate) tag: Option<String>,

    /// Only accepted at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) created_after: Option<String>,

    /// Only accepted before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    pub(crate) created_before: Option<String>,

    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,

    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KindsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print the defaults instead, with the comments that explain them
    #[arg(long)]
    pub(crate) default: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
