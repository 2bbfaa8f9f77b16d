//! Telling a handler to end, with the reason.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

/// Why a handler is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// A client wants the job cancelled.
    Cancelled,
    /// The attempt took longer than it may.
    TimedOut,
    /// The process is stopping.
    Draining,
    /// This worker cannot reach the database, and steps back before it is taken for dead.
    OutOfTouch,
    /// This worker was taken for dead.
    Fenced,
    /// The row has moved on.
    LeaseLost,
}

/// Tells a handler to end. The first reason holds.
pub(crate) struct Stop {
    token: CancellationToken,
    reason: OnceLock<StopReason>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { token: CancellationToken::new(), reason: OnceLock::new() }
    }

    /// Tells it, unless it has been told.
    pub(crate) fn because(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Why it is to end, if it is.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Fires with the first reason.
    pub(crate) const fn token(&self) -> &CancellationToken {
        &self.token
    }
}
