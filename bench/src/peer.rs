//! Other systems: commands that measure themselves.

use std::str::FromStr;

use anyhow::Context;
use clap::ValueEnum;
use tokio::process::Command;

use crate::figures::Figures;
use crate::scenarios::Case;

/// A command that stands for a system.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) case: Case,
    pub(crate) name: String,
    command: String,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(case, rest)| Some((case, rest.split_once('=')?)));
        let (case, (name, command)) = parts.ok_or("it must be CASE:NAME=COMMAND")?;
        Ok(Self { case: Case::from_str(case, true)?, name: name.to_owned(), command: command.to_owned() })
    }
}

impl Peer {
    /// Runs the command, and reads the last line of its output.
    pub(crate) async fn measure(&self) -> anyhow::Result<Figures> {
        let output = Command::new("sh").arg("-c").arg(&self.command).kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        let line = said.lines().last().context("it says nothing")?;
        serde_json::from_str(line).with_context(|| format!("it says {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_for_a_case() {
        let peer: Peer = "d:pg-boss=run x=1 b:c".parse().expect("a peer");
        assert_eq!((peer.case, peer.name.as_str(), peer.command.as_str()), (Case::D, "pg-boss", "run x=1 b:c"));
        assert!("d".parse::<Peer>().is_err() && "z:a=b".parse::<Peer>().is_err());
    }
}
