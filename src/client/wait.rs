//! Waiting for a job to become final, over restarts of the server.

use std::time::{Duration, Instant};

use offload_common::clock;
use offload_common::job::JobId;

use super::{Answer, Client, ClientError, JobView};

/// How long one request waits at the server; below what proxies put up with.
const POLL: Duration = Duration::from_secs(20);
/// The pause before asking again where the answer came at once.
const PAUSE: Duration = Duration::from_millis(250);

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// At most this long; `None` is for ever.
    pub(crate) total: Option<Duration>,
    /// The server may be away for this long, once the job is known.
    pub(crate) outage: Duration,
}

impl Patience {
    /// Waits this long, or for ever; the server may be away for a minute meanwhile.
    pub(crate) fn of(total: Option<Duration>) -> Self {
        Self { total, outage: Duration::from_secs(60) }
    }
}

/// What came of waiting.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The final job.
    Final(Answer<JobView>),
    /// Time ran out; the job as it was last seen.
    TimedOut(Answer<JobView>),
}

impl Client {
    /// Waits until a job is final.
    ///
    /// # Errors
    /// As [`Client::job`]; where the server goes away after the job was seen, only once that lasts too long.
    pub(crate) async fn wait(&self, id: JobId, patience: Patience) -> Result<Waited, ClientError> {
        let begun = clock::instant();
        let left = || patience.total.map(|total| total.saturating_sub(begun.elapsed()));
        let mut last = self.job(id, None).await?;
        let mut seen = clock::instant();
        while !last.value.state.is_final() {
            let poll = left().map_or(POLL, |left| left.min(POLL));
            if poll.is_zero() {
                return Ok(Waited::TimedOut(last));
            }
            let asked = clock::instant();
            match self.job(id, Some(poll)).await {
                Ok(answer) => (last, seen) = (answer, clock::instant()),
                Err(error) if error.is_unavailable() && seen.elapsed() < patience.outage + poll => {}
                Err(error) => return Err(error),
            }
            if !last.value.state.is_final() && came_at_once(asked) {
                tokio::time::sleep(PAUSE.min(left().unwrap_or(PAUSE))).await;
            }
        }
        Ok(Waited::Final(last))
    }
}

/// A server that drains answers those who wait early; asking again at once would only keep it busy.
fn came_at_once(asked: Instant) -> bool {
    asked.elapsed() < PAUSE
}
