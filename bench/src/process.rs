//! Processes that are started for a measurement, and gone after it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// What processes write to standard error goes into this file of their folder.
const LOG: &str = "log";
/// Lines of it that are shown when a measurement fails.
const LAST_LINES: usize = 20;

/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process; dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    /// Where it listens, if it said so.
    pub(crate) address: Option<SocketAddr>,
}

impl Process {
    /// Starts one. If it is to listen, waits until it does: its first line ends with its address.
    pub(crate) async fn start(
        program: &Path,
        folder: &Path,
        environment: &[(String, String)],
        arguments: &[&str],
        listens: bool,
    ) -> anyhow::Result<Self> {
        let name = format!("{} {}", program.display(), arguments.join(" "));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).envs(environment.iter().cloned());
        let log = File::options().create(true).append(true).open(folder.join(LOG))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let mut address = None;
        if listens {
            let line = timeout(PATIENCE, lines.next_line()).await.with_context(|| format!("{name} says nothing"))??;
            let line = line.with_context(|| format!("{name} ended at its start"))?;
            let said = line.rsplit_once("://").map(|(_, address)| address.trim_end_matches('/'));
            let parsed = said.and_then(|said| said.parse().ok());
            address = Some(parsed.with_context(|| format!("{name} said: {line}"))?);
        }
        Ok(Self { child, address })
    }

    /// Runs one to its end.
    pub(crate) async fn run(
        program: &Path,
        folder: &Path,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> anyhow::Result<()> {
        let mut process = Self::start(program, folder, environment, arguments, false).await?;
        let status = timeout(PATIENCE, process.child.wait()).await.context("it takes too long")??;
        anyhow::ensure!(status.success(), "{} {}: {status}", program.display(), arguments.join(" "));
        Ok(())
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            kill_process(pid, Signal::TERM)?;
        }
        timeout(PATIENCE, self.child.wait()).await.context("a process does not end")??;
        Ok(())
    }
}

/// The last that the processes of a folder had to say.
pub(crate) fn last_words(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
