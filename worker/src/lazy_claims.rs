//! The claims of lazy runs, a turn at a time.
//!
//! All that are due go out together. What has no answer is asked for one by one from the next turn on, so that a row that
//! somebody holds locked keeps no other run from being claimed; and a turn ends at the first silence, so that beats do not
//! wait behind it for long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use offload_common::job::{JobId, Nonce};
use offload_common::store::{Claim, Claimed, Session};
use offload_common::{clock, failpoint};
use tokio::time::timeout;

use crate::run::{Run, Runs};

// A claim that takes longer has no answer, at most. A beat waits behind it, and one in six leases is far from too late.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
const CLAIMS_PER_LEASE: u32 = 6;

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Every claim that was made was answered.
    Answered,
    /// One was not. It is made again.
    Silence,
    /// The store does not know this membership any more.
    NotAMember,
}

/// The claims of one membership.
pub(crate) struct LazyClaims {
    patience: Duration,
    // Claims without an answer: they go last, each by itself, in this order.
    silent: VecDeque<Nonce>,
    // The others had no answer when they were made together.
    one_by_one: bool,
    granted: Vec<JobId>,
}

impl LazyClaims {
    /// Those of a worker that is taken for dead when it does not beat for as long as this lease.
    pub(crate) fn new(lease: Duration) -> Self {
        let patience = LONGEST_PATIENCE.min(lease / CLAIMS_PER_LEASE);
        Self { patience, silent: VecDeque::new(), one_by_one: false, granted: Vec::new() }
    }

    /// The jobs whose claims were granted since this was asked last: whoever follows them is to be told.
    pub(crate) fn granted(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.granted)
    }

    /// Claims the runs that want it or have lasted for `lazy`.
    pub(crate) async fn turn(&mut self, session: &mut dyn Session, runs: &Runs, lazy: Duration) -> Turn {
        let (runs, claims) = runs.begin_claims(lazy, clock::instant());
        self.silent.retain(|nonce| claims.iter().any(|claim| claim.nonce == *nonce));
        let due: Vec<(Arc<Run>, Claim)> = runs.into_iter().zip(claims).collect();
        let (silent, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, c)| self.silent.contains(&c.nonce));
        for part in others.chunks(if self.one_by_one { 1 } else { others.len().max(1) }) {
            match ask(session, part, self.patience, &mut self.granted).await {
                Turn::Answered => {}
                Turn::Silence => {
                    match part {
                        [(_, claim)] => self.silent.push_back(claim.nonce),
                        _ => self.one_by_one = true,
                    }
                    return Turn::Silence;
                }
                Turn::NotAMember => return Turn::NotAMember,
            }
        }
        self.one_by_one = false;
        while let Some(nonce) = self.silent.pop_front() {
            let one: Vec<_> = silent.iter().filter(|(_, claim)| claim.nonce == nonce).cloned().collect();
            match ask(session, &one, self.patience, &mut self.granted).await {
                Turn::Answered => {}
                Turn::Silence => {
                    self.silent.push_back(nonce);
                    return Turn::Silence;
                }
                Turn::NotAMember => return Turn::NotAMember,
            }
        }
        Turn::Answered
    }
}

async fn ask(
    session: &mut dyn Session,
    due: &[(Arc<Run>, Claim)],
    patience: Duration,
    granted: &mut Vec<JobId>,
) -> Turn {
    if due.is_empty() {
        return Turn::Answered;
    }
    let claims: Vec<Claim> = due.iter().map(|(_, claim)| *claim).collect();
    failpoint::reach("claim.before");
    let claimed = timeout(patience, session.claim(&claims)).await;
    failpoint::reach("claim.after");
    let answers = match claimed {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no answer to a claim");
            return Turn::Silence;
        }
        Err(_) => {
            tracing::debug!("no answer to a claim in time");
            return Turn::Silence;
        }
    };
    for ((run, _), answer) in due.iter().zip(&answers) {
        match answer {
            Claimed::Granted(lease) => {
                run.end_claim(Some(*lease));
                granted.push(lease.job);
            }
            Claimed::MovedOn => run.end_claim(None),
            // Nobody claims for it any more.
            Claimed::NotAMember => {}
        }
    }
    if answers.contains(&Claimed::NotAMember) { Turn::NotAMember } else { Turn::Answered }
}
