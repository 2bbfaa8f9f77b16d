//! Claims what must not start without, and starts what was granted; hands back what cannot run here.
//!
//! Each batch in a task of its own, and after a failure each job by itself: a row that somebody holds locked holds up no
//! other.

use std::sync::Arc;
use std::time::Duration;

use offload_common::failpoint;
use offload_common::job::{Nonce, WorkerId};
use offload_common::store::{Candidate, Claim, Claimed};
use tokio_util::sync::CancellationToken;

use crate::delivery::Ticket;
use crate::engine::{Engine, Place};
use crate::kind::AnyKind;
use crate::run::Run;

/// Batches that are claimed at once: those that wait for locks leave connections to the others.
pub(crate) const CLAIMS_AT_ONCE: usize = 3;
// The pause after a failure, doubled with each in a row, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
// A job that cannot run here goes back for this long: its kind may be offered elsewhere, in a rolling deploy.
const DECLINED_FOR: Duration = Duration::from_secs(1);

/// A delivered job whose row says that it is to run, and can.
pub(crate) struct Ready {
    pub(crate) job: Candidate,
    pub(crate) kind: Arc<dyn AnyKind>,
    pub(crate) ticket: Ticket,
    pub(crate) place: Place,
}

/// Claims, then starts what was granted. Once a claim is under way its outcome is waited for: the row may say that it runs
/// here. What has not come to that when `drain` fires is given back.
pub(crate) async fn claim(engine: Arc<Engine>, worker: WorkerId, ready: Vec<Ready>, drain: CancellationToken) {
    let Some(Ok(_turn)) = drain.run_until_cancelled(engine.claims.acquire()).await else { return };
    let _until_launched = engine.runs.takings.begin();
    let wish = |ready: Ready| {
        let (job, epoch, nonce) = (ready.job.id, ready.job.epoch, Nonce::new());
        (Claim { job, epoch, nonce, running_for: Duration::ZERO }, ready)
    };
    let mut open: Vec<(Claim, Ready)> = ready.into_iter().map(wish).collect();
    let (mut together, mut pause, mut failures) = (open.len(), FIRST_PAUSE, 0u32);
    loop {
        let mut unanswered = Vec::new();
        while !open.is_empty() {
            let (claims, part): (Vec<Claim>, Vec<Ready>) = open.drain(..together.min(open.len())).unzip();
            failpoint::reach("claim.before");
            let answers = engine.store.claim(worker, &claims).await;
            failpoint::reach("claim.after");
            match answers {
                Ok(answers) => {
                    let granted = answers.iter().filter_map(|claimed| Some(claimed.lease()?.job)).collect();
                    engine.finisher.announce(granted).await;
                    part.into_iter().zip(answers).for_each(|(ready, said)| start(&engine, worker, ready, said))
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, jobs = part.len(), "jobs could not be claimed; trying again");
                    }
                    unanswered.extend(claims.into_iter().zip(part));
                }
            }
        }
        if unanswered.is_empty() {
            return;
        }
        tokio::time::sleep(pause).await;
        (open, together, pause) = (unanswered, 1, (pause * 2).min(LONGEST_PAUSE));
    }
}

fn start(engine: &Arc<Engine>, worker: WorkerId, ready: Ready, claimed: Claimed) {
    let Ready { job, kind, ticket, place } = ready;
    match claimed {
        Claimed::Granted(lease) => engine.launch(job, kind, Run::claimed(lease, Some(ticket.receipt)), place),
        // Somebody else has it.
        Claimed::MovedOn => ticket.receipt.done(),
        Claimed::NotAMember => {
            engine.runs.doubt(worker);
            // Given back: others can run it.
            drop(ticket);
        }
    }
}

/// Moves rows that cannot run here back to `scheduled`.
pub(crate) async fn decline(engine: Arc<Engine>, tickets: Vec<Ticket>) {
    let pointers: Vec<_> = tickets.iter().map(|ticket| ticket.pointer).collect();
    match engine.store.decline(&pointers, DECLINED_FOR).await {
        Ok(()) => tickets.into_iter().for_each(|ticket| ticket.receipt.done()),
        // Dropped: given back, to be declined when they come again.
        Err(error) => tracing::warn!(%error, "could not hand back jobs that cannot run here"),
    }
}
