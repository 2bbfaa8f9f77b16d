//! Signals: the first one asks to drain, the second one stops at once.

use std::io;

use offload_worker::StopSignals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// When to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Take nothing new, let what runs end within its grace time.
    pub(crate) drain: CancellationToken,
    /// Hand back what runs, and end.
    pub(crate) halt: CancellationToken,
}

impl Stop {
    /// Fires with SIGTERM and SIGINT (Ctrl-C). A third signal does not wait for anything any more.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let fired = stop.clone();
        tokio::spawn(async move {
            let name = either(&mut terminate, &mut interrupt).await;
            tracing::info!(signal = name, "draining; a second signal stops at once");
            fired.drain.cancel();
            let name = either(&mut terminate, &mut interrupt).await;
            tracing::warn!(signal = name, "stopping at once");
            fired.halt.cancel();
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(Exit::Halted as i32);
        });
        Ok(stop)
    }

    /// As a worker takes it.
    pub(crate) fn signals(&self) -> StopSignals {
        StopSignals { drain: self.drain.clone(), halt: self.halt.clone() }
    }

    /// How a server that was stopped this way ends.
    pub(crate) fn exit(&self) -> Exit {
        if self.halt.is_cancelled() { Exit::Halted } else { Exit::Success }
    }
}

/// Whether a worker's end is one that it was told to come to.
///
/// # Errors
/// Where it never started, or ended because a part of it had died.
pub(crate) fn worker_ended(exit: offload_worker::Exit) -> anyhow::Result<()> {
    use offload_worker::Exit::{Drained, Failed, Halted, HandedBack, NotStarted};
    match exit {
        Drained | HandedBack(_) | Halted => Ok(()),
        NotStarted => anyhow::bail!("the worker's heartbeat thread cannot be started: this machine has no room for it"),
        Failed(part) => {
            anyhow::bail!("{part} of the worker died of a fault in this program, told in the log; start it again")
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
