//! The end of a run: what becomes of the job is decided and written, until that is known.

use std::time::Duration;

use offload_common::job::transition::{Decision, Event, Snapshot, decide};
use offload_common::job::{Lease, State};
use offload_common::store::{Candidate, Dispatch, Error, Finish, Finished, Pointer, Transaction};
use offload_common::{RawJson, failpoint};

use crate::engine::Engine;
use crate::finisher::Written;
use crate::kind::JobError;
use crate::maintenance::LONGEST_NAP;
use crate::outcome::refused;

/// What is owed for the message that brought a job, once its run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the message is to be settled by it"]
pub(crate) enum Settled {
    /// The database shows that it is no longer needed.
    Done,
    /// It may be needed.
    GiveBack,
}

/// The end of a run that still has something to write.
pub(crate) struct Conclusion<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) job: &'a Candidate,
    /// Which attempt it was, from 1.
    pub(crate) attempt: u32,
    pub(crate) lease: Lease,
    pub(crate) ran_for: Duration,
}

impl Conclusion<'_> {
    /// Decides what becomes of the job and writes it, until that is known.
    pub(crate) async fn write(
        &self,
        mut event: Event,
        mut result: Option<RawJson>,
        mut transaction: Option<Box<dyn Transaction>>,
    ) -> Settled {
        let mut snapshot = self.snapshot(&event);
        let mut refusals = 0;
        loop {
            let finish = match self.decide(&snapshot, &event, result.clone()) {
                Some(finish) => finish,
                None => return Settled::GiveBack,
            };
            failpoint::reach("finish.before");
            let written = match transaction.take() {
                Some(transaction) => self.commit(transaction, &finish).await,
                None => self.engine.finisher.write(finish.clone()).await.into(),
            };
            failpoint::reach("finish.after");
            match written {
                Step::Known(Finished::Applied(pointer)) => {
                    self.applied(&finish, pointer);
                    return Settled::Done;
                }
                // The row has a wish to cancel that this run had not heard of.
                Step::Known(Finished::CancelRequested) => snapshot.cancel_requested = true,
                Step::Known(Finished::Lost) => {
                    tracing::debug!("the row had moved on; this run counts for nothing");
                    return Settled::Done;
                }
                Step::Refused(why) if refusals == 0 => {
                    refusals += 1;
                    (event, result) = (refused(&why), None);
                }
                Step::Refused(why) => {
                    tracing::error!(why, "the database refuses to write the end of this job");
                    return Settled::GiveBack;
                }
                Step::Unknown => return Settled::GiveBack,
                Step::Instead(failed) => (event, result) = (failed, None),
            }
        }
    }

    /// The row as it is while this run holds it.
    fn snapshot(&self, event: &Event) -> Snapshot {
        let cancel_requested = self.job.cancel_requested || *event == Event::Stopped;
        if self.lease.claimed {
            Snapshot { state: State::Running, attempt: self.attempt, cancel_requested, ..self.job.snapshot() }
        } else {
            Snapshot { cancel_requested, ..self.job.snapshot() }
        }
    }

    fn decide(&self, snapshot: &Snapshot, event: &Event, result: Option<RawJson>) -> Option<Finish> {
        match decide(snapshot, event, &self.job.retry_policy, rand::random()) {
            Ok(Decision::Move(transition)) => {
                let (lease, ran_for, linked) = (self.lease, self.ran_for, self.job.linked);
                Some(Finish { lease, transition, result, ran_for, linked })
            }
            Ok(Decision::RequestCancel) => None,
            Err(illegal) => {
                tracing::error!(%illegal, ?event, "a run ended in a way that its job does not take");
                None
            }
        }
    }

    /// Commits what the handler wrote together with the job's success.
    async fn commit(&self, transaction: Box<dyn Transaction>, finish: &Finish) -> Step {
        match transaction.finish(finish).await {
            Ok(finished) => {
                if matches!(finished, Finished::Applied(_)) {
                    self.engine.finisher.announce(vec![self.job.id]).await;
                }
                Step::Known(finished)
            }
            Err(Error::Rejected(why)) => Step::Refused(why),
            // Whether it committed is unknown. If it did, the row has moved on, and the failure that is written now
            // finds nothing to change.
            Err(error) => match JobError::from(error) {
                JobError::Failed(failure) => Step::Instead(Event::Fail(failure)),
                JobError::Snooze(_) | JobError::LeaseLost => Step::Known(Finished::Lost),
            },
        }
    }

    fn applied(&self, finish: &Finish, pointer: Option<Pointer>) {
        let to = &finish.transition;
        let ran_ms = self.ran_for.as_millis() as u64;
        match (&to.failure, to.to) {
            (Some((code, message)), State::Scheduled) => {
                tracing::info!(code, message, retry_in_ms = to.delay.map(|d| d.as_millis() as u64), "attempt failed");
            }
            (Some((code, message)), _) => tracing::warn!(code, message, ran_ms, "failed"),
            (None, state) => tracing::debug!(%state, ran_ms, "ended"),
        }
        // The end of a linked job may make others due.
        let is_end = to.to.is_final();
        if is_end && self.job.followed {
            self.engine.release.notify_one();
        }
        if is_end && finish.linked || to.delay.is_some_and(|delay| delay < LONGEST_NAP) {
            self.engine.promote.notify_one();
        }
        if let Some(pointer) = pointer {
            let (lane, traceparent) = (self.job.lane.clone(), self.job.traceparent.clone());
            self.engine.publisher.send(vec![Dispatch { lane, pointer, traceparent }]);
        }
    }
}

/// What one try at writing the end came to.
enum Step {
    Known(Finished),
    Refused(String),
    Unknown,
    Instead(Event),
}

impl From<Written> for Step {
    fn from(written: Written) -> Self {
        match written {
            Written::Known(finished) => Step::Known(finished),
            Written::Refused(why) => Step::Refused(why),
            Written::Unknown => Step::Unknown,
        }
    }
}
