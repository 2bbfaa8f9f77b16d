//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use url::Url;

use crate::peer::Peer;
use crate::scenarios::Case;

const HELP: &str = "\
The cases:
  a     one POST per job on 64 connections, to the last job's end
  b     many jobs in each request, to the last job's end
  c     drain of a backlog by two workers
  d     one job at a time on an idle system, by Prefer: wait
  e     GET of finished jobs on 64 connections
  f64   POST without a worker, on 64 connections
  f256  the same on 256
  idle  what an API and a worker cost that have nothing to do
  w1, w2, w4   jobs that wait for 50 ms, on one, two and four workers

The floor of a to c is the least that a job takes: rows inserted by the batch, a confirmed message each, rows completed by the
batch. That of d is the same for one job, without HTTP; that of e an empty answer; that of f rows inserted by the batch for
requests of the same size. The last column says how many times as fast as that Offload is.

Example:
  DATABASE_URL=postgres://postgres@127.0.0.1/postgres AMQP_URL=amqp://127.0.0.1 offload-bench --cases a,d --rounds 5";

/// Measures Offload on the PostgreSQL and RabbitMQ that it is given, with a database and queues of its own, beside the
/// least that its parts have to do.
#[derive(Debug, Parser)]
#[command(name = "offload-bench", after_help = HELP, max_term_width = 120)]
pub(crate) struct Options {
    /// The server to make databases on
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database: Url,

    /// The virtual host to make queues in
    #[arg(long, env = "AMQP_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) amqp: Url,

    /// What to measure
    #[arg(long, value_delimiter = ',', value_name = "CASES", default_value = "a,c,d,e,f64,f256")]
    pub(crate) cases: Vec<Case>,

    /// How often, in turn
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: u32,

    /// How much of everything: 0.01 is a try, 1 some ten seconds per case
    #[arg(long, default_value_t = 1.0)]
    pub(crate) scale: f64,

    /// Finished rows to have in the database before
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) finished: u64,

    /// Rows to have in the database before that are due in a month
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) scheduled: u64,

    /// Jobs in the backlog of c [default: 300,000, times the scale]
    #[arg(long, value_name = "N")]
    pub(crate) backlog: Option<u64>,

    /// Jobs at once in each worker
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) slots: u32,

    /// Whether to measure the floor
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) floor: bool,

    /// The program to measure [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,

    /// Another Offload to measure in turn, such as the release before
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,

    /// A command to measure in turn, that prints its figures as a line of JSON: {"rate": 1234} or {"p50_ms": 1.2, "p99_ms":
    /// 3.4}
    #[arg(long = "peer", value_name = "CASE:NAME=COMMAND")]
    pub(crate) peers: Vec<Peer>,

    /// Where to write every sample
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Whether the numbers make sense.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.scale > 0.0 && self.scale <= 1_000.0, "--scale must be more than 0, and 1000 at most");
        anyhow::ensure!(self.rounds > 0, "--rounds must be 1 or more");
        Ok(())
    }

    /// This many of something, scaled.
    pub(crate) fn count(&self, full: f64) -> usize {
        (full * self.scale).ceil() as usize
    }

    /// This long, scaled; not so short that nothing happens.
    pub(crate) fn time(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64((seconds * self.scale).max(0.2))
    }

    /// The programs to measure, by the names of their rows.
    pub(crate) fn programs(&self) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let own = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let found = |path: PathBuf| path.canonicalize().with_context(|| format!("{} is no program", path.display()));
        let mut programs = vec![("offload".to_owned(), found(own)?)];
        if let Some(other) = &self.against {
            programs.push(("against".to_owned(), found(other.clone())?));
        }
        Ok(programs)
    }
}
