//! `exec`: kinds that are programs, in any language, as `[kinds.NAME]` of the configuration names them.
//!
//! The contract with the program: the payload comes as one line of JSON on standard input, which then ends; what it
//! writes to standard output is the result, as JSON, or nothing for `null`; each line on standard error goes to the job's
//! log, or is its progress if it reads `progress 0.4 any text`. Exit status 0 means success, 75 (`EX_TEMPFAIL`) try
//! again, any other failure. The job is over when the program exits: what is left of its process group is killed.

mod outcome;
mod parents;
mod process;
mod protocol;
mod spawner;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::process::Stdio;

use async_trait::async_trait;
use offload_common::RawJson;
use offload_common::config::ExecKindConfig;
use offload_common::kind::{BadSchema, Effects, KindCatalog, KindSpec};
use rustix::io::Errno;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::process::Command;

use self::process::Interrupted;
use self::protocol::Said;
use self::spawner::Limits;
use crate::kind::{AnyKind, Context, JobError};

const DEFAULT_MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Where programs are looked for if the worker itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What of the worker's own environment programs get to see.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// A `[kinds.NAME]` that cannot be a kind.
#[derive(Debug, thiserror::Error)]
pub enum BadExecKind {
    /// There is nothing to run.
    #[error(
        "its command is empty; it names the program and its arguments, as in [\"/usr/local/bin/render\", \"--json\"]"
    )]
    NoCommand,
    /// Nothing can be validated by its schema.
    #[error(transparent)]
    Schema(#[from] BadSchema),
    /// Its result schema is none.
    #[error("its result_schema is not a valid JSON Schema: {0}")]
    ResultSchema(String),
    /// A variable that no environment can hold.
    #[error("`{0}` cannot be the name of an environment variable")]
    Variable(String),
}

/// A program as a kind.
#[derive(Debug)]
pub(super) struct Exec {
    spec: KindSpec,
    program: String,
    config: ExecKindConfig,
}

impl Exec {
    pub(super) fn new(name: &str, config: &ExecKindConfig) -> Result<Self, BadExecKind> {
        let program = config.command.first().filter(|program| !program.is_empty()).ok_or(BadExecKind::NoCommand)?;
        let bad_name = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = config.environment.keys().find(bad_name) {
            return Err(BadExecKind::Variable(name.clone()));
        }
        let spec = spec(name, config);
        KindCatalog::new([spec.clone()])?;
        let as_payload = KindSpec { payload_schema: spec.result_schema.clone(), ..spec.clone() };
        KindCatalog::new([as_payload]).map_err(|error| BadExecKind::ResultSchema(error.reason))?;
        Ok(Self { spec, program: program.clone(), config: config.clone() })
    }

    fn command(&self, run: &Run) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.config.command[1..]);
        command.env_clear();
        for name in INHERITED {
            let default = (name == "PATH").then(|| OsString::from(DEFAULT_PATH));
            if let Some(value) = std::env::var_os(name).or(default) {
                command.env(name, value);
            }
        }
        command.envs(&self.config.environment);
        command.env("OFFLOAD_JOB_ID", &run.job).env("OFFLOAD_ATTEMPT", run.attempt.to_string());
        if let Some(traceparent) = &run.traceparent {
            command.env("TRACEPARENT", traceparent);
        }
        if let Some(parents) = &run.parents {
            command.env("OFFLOAD_PARENTS", parents.path());
        }
        if let Some(directory) = &self.config.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program once. `hear` is told what it says on the way.
    async fn run_once(&self, run: &Run, payload: &str, hear: impl FnMut(Said)) -> Result<RawJson, JobError> {
        let limits = Limits { memory: self.config.max_memory_bytes };
        let started = spawner::spawn(self.command(run), limits).await;
        let process = started.map_err(|error| self.cannot_start(&error))?;
        let max_output = self.config.max_output_bytes.unwrap_or(DEFAULT_MAX_OUTPUT);
        let ended = process.converse(protocol::input(payload), max_output, hear).await;
        let ended = ended.map_err(|interrupted| match interrupted {
            Interrupted::OutputTooLarge => {
                JobError::fail("output_too_large", format!("{} wrote more than {max_output} bytes", self.program))
            }
            Interrupted::Pipe(error) => {
                JobError::retry("exec", format!("the connection with {} failed: {error}", self.program))
            }
        })?;
        outcome::judge(&self.program, &ended)
    }

    fn cannot_start(&self, error: &io::Error) -> JobError {
        let mut message = format!("cannot start {}: {error}", self.program);
        if let Some(directory) = &self.config.directory {
            message = format!("{message} (in {})", directory.display());
        }
        // What the machine has run out of comes back; a file that is not there, or is no program, does not.
        let passing = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY];
        let passing = Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno));
        if passing { JobError::retry("cannot_start", message) } else { JobError::fail("cannot_start", message) }
    }
}

/// What a program is told about its job, beside the payload.
struct Run {
    job: String,
    attempt: u32,
    traceparent: Option<String>,
    /// What became of the jobs that it runs after, as a file that lasts as long as the run.
    parents: Option<NamedTempFile>,
}

#[async_trait]
impl AnyKind for Exec {
    fn spec(&self) -> &KindSpec {
        &self.spec
    }

    async fn run(&self, job: &Context, payload: &RawJson) -> Result<RawJson, JobError> {
        let parents = parents::file(job).await?;
        let run = Run { job: job.id.to_string(), attempt: job.attempt, traceparent: job.traceparent.clone(), parents };
        let hear = |said| match said {
            Said::Progress(fraction, message) => job.progress(fraction, message),
            Said::Line(line) => job.log("info", line),
        };
        self.run_once(&run, payload.get(), hear).await
    }
}

fn spec(name: &str, config: &ExecKindConfig) -> KindSpec {
    let object = || json!({"type": "object"});
    let spec = KindSpec {
        name: name.to_owned(),
        description: config.description.clone().unwrap_or_else(|| "Runs a program.".to_owned()),
        payload_schema: config.payload_schema.clone().unwrap_or_else(object),
        result_schema: config.result_schema.clone().unwrap_or(Value::Bool(true)),
        effects: if config.repeatable { Effects::Repeatable } else { Effects::Unsafe },
        ..KindSpec::new::<(), ()>(name, "")
    };
    KindSpec {
        queue: config.queue.clone().unwrap_or(spec.queue),
        max_attempts: config.max_attempts.unwrap_or(spec.max_attempts),
        timeout_seconds: config.timeout_seconds.unwrap_or(spec.timeout_seconds),
        ..spec
    }
}
