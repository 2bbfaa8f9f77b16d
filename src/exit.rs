//! Exit codes, which scripts rely on.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use offload_common::config::ConfigError;
use offload_common::kind::BadSchema;
use offload_worker::kinds::KindsError;

use crate::client::ClientError;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for a server: drained after the first signal.
    Success = 0,
    /// It did not work, and the message says why; `verify`: something is wrong.
    Error = 1,
    /// The command line or the configuration is wrong (clap uses the same code).
    Usage = 2,
    /// A second signal cut the drain short; running jobs were handed back.
    Halted = 3,
    /// `wait`, `submit --wait`: a job failed.
    JobFailed = 10,
    /// `wait`, `submit --wait`: a job was cancelled, and none failed.
    JobCancelled = 11,
    /// `wait`, `submit --wait`: time ran out first.
    TimedOut = 12,
    /// The server (`verify`: the database) cannot be reached, or is not ready (EX_UNAVAILABLE of sysexits.h).
    Unavailable = 69,
}

/// The table in `offload --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0   done; a server: drained after SIGTERM or Ctrl-C
  1   it did not work, and standard error says why; verify: something is wrong
  2   the command line or the configuration is wrong
  3   a second SIGTERM or Ctrl-C cut the drain short; running jobs were handed back
  10  wait, submit --wait: a job failed
  11  wait, submit --wait: a job was cancelled, and none failed
  12  wait, submit --wait: time ran out before the job was final
  69  the server (verify: the database) cannot be reached, or is not ready";

/// The command was given something it cannot work with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// What the command needs is away, or not ready.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotReady(pub(crate) String);

impl Exit {
    /// Says what went wrong on standard error, and which code that is. A reader that closed the pipe has had enough:
    /// no error.
    pub(crate) fn report(error: &anyhow::Error) -> Self {
        let exit = Self::of(error);
        if exit != Exit::Success {
            // Nobody is left to tell where standard error is gone.
            let _ = writeln!(std::io::stderr(), "offload: {error:#}");
        }
        exit
    }

    fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(io) = cause.downcast_ref::<std::io::Error>()
                && io.kind() == ErrorKind::BrokenPipe
            {
                return Exit::Success;
            }
            let configuration = cause.is::<ConfigError>() || cause.is::<KindsError>() || cause.is::<BadSchema>();
            if configuration || cause.is::<UsageError>() {
                return Exit::Usage;
            }
            if cause.is::<NotReady>() {
                return Exit::Unavailable;
            }
            if let Some(client) = cause.downcast_ref::<ClientError>() {
                return if client.is_unavailable() { Exit::Unavailable } else { Exit::Error };
            }
        }
        Exit::Error
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn errors_become_codes() {
        let usage = anyhow!(UsageError("no".into())).context("around it");
        let pipe = anyhow!(std::io::Error::from(ErrorKind::BrokenPipe));
        assert_eq!(Exit::of(&usage), Exit::Usage);
        let away = anyhow!(NotReady("away".into())).context("around it");
        assert_eq!(Exit::of(&away), Exit::Unavailable);
        assert_eq!(Exit::of(&pipe), Exit::Success);
        assert_eq!(Exit::of(&anyhow!("else")), Exit::Error);
    }
}
