//! One run of a job, from its start to the settling of its message.

use std::sync::Arc;

use offload_common::job::State;
use offload_common::job::transition::Event;
use offload_common::store::{Candidate, Transaction};
use offload_common::{clock, failpoint};
use tracing::Instrument as _;

use crate::conclusion::{Conclusion, Settled};
use crate::context::Context;
use crate::engine::{Engine, Place};
use crate::kind::AnyKind;
use crate::outcome::{Ended, Outcome, outcome, panicked};
use crate::run::{Run, StopReason};

/// Runs a job: perform, report, conclude, settle. `_place` is freed at the very end.
pub(crate) async fn execute(engine: Arc<Engine>, job: Candidate, kind: Arc<dyn AnyKind>, run: Arc<Run>, _place: Place) {
    let span = tracing::info_span!(
        "job",
        job.id = %job.id,
        kind = job.kind,
        attempt = attempt(&job),
        traceparent = job.traceparent.as_deref(),
    );
    let mut presence = Presence { engine: &engine, run: &run, settled: Settled::GiveBack };
    let settled = async {
        let (ended, transaction) = perform(&engine, &job, kind, &run).await;
        let ran_for = clock::instant().duration_since(run.started);
        if !matches!(ended, Ended::Stopped(reason) if reason != StopReason::TimedOut) {
            engine.reporter.conclude(&run, &engine.runs).await;
        }
        let hold = run.finish().await;
        match outcome(ended, hold, job.timeout) {
            Outcome::Write(event, result) => {
                let lease = run.lease(hold);
                // What a handler wrote commits with its job's success, and with nothing else.
                let transaction = transaction.filter(|_| event == Event::Succeed);
                let conclusion = Conclusion { engine: &engine, job: &job, attempt: attempt(&job), lease, ran_for };
                conclusion.write(event, result, transaction).await
            }
            Outcome::Forget => Settled::Done,
            Outcome::GiveBack => Settled::GiveBack,
        }
    };
    presence.settled = settled.instrument(span).await;
}

/// A run that is here. Its end, in whichever way it comes, takes it out of the registry and settles its message.
struct Presence<'a> {
    engine: &'a Engine,
    run: &'a Arc<Run>,
    settled: Settled,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        // From here on the same message, if it comes again, is judged by the row.
        self.engine.runs.leave(self.run);
        if self.run.stolen {
            self.engine.steal.notify_one();
        }
        if std::thread::panicking() {
            tracing::error!(job.id = %self.run.job, "a fault in this program ended a run; its job will run again");
        }
        match (self.settled, self.run.take_receipt()) {
            (Settled::Done, Some(receipt)) => {
                failpoint::reach("ack.before");
                receipt.done();
            }
            // Dropped: given back.
            (Settled::GiveBack, receipt) => drop(receipt),
            (Settled::Done, None) => {}
        }
    }
}

/// Which attempt the run of a fetched or stolen row is, from 1.
fn attempt(job: &Candidate) -> u32 {
    if job.state == State::Queued { job.attempt + 1 } else { job.attempt }
}

/// Runs the handler in a task of its own, so that a panic anywhere in it ends this attempt and nothing else.
async fn perform(
    engine: &Arc<Engine>,
    job: &Candidate,
    kind: Arc<dyn AnyKind>,
    run: &Arc<Run>,
) -> (Ended, Option<Box<dyn Transaction>>) {
    let context = Context::new(engine.clone(), run.clone(), job, attempt(job));
    let (engine, run) = (engine.clone(), run.clone());
    let (payload, timeout) = (job.payload.clone(), job.timeout);
    let handler = async move {
        if let Some(reason) = run.stop.reason() {
            return (Ended::Stopped(reason), None);
        }
        failpoint::reach("effect.before");
        let ended = tokio::select! {
            biased;
            returned = kind.run(&context, &payload) => match (run.stop.reason(), returned) {
                // It noticed by itself that it is to stop.
                (Some(reason), Err(_)) => Ended::Stopped(reason),
                (_, returned) => Ended::Returned(returned),
            },
            () = run.stop.token().cancelled() => Ended::Stopped(run.stop.reason().unwrap_or(StopReason::LeaseLost)),
            () = tokio::time::sleep(timeout) => {
                run.stop.because(StopReason::TimedOut);
                Ended::Stopped(run.stop.reason().unwrap_or(StopReason::TimedOut))
            }
            () = engine.reporter.follow(&run, &engine.runs) => Ended::Stopped(StopReason::LeaseLost),
            () = settle_early(&engine, &run) => Ended::Stopped(StopReason::LeaseLost),
        };
        failpoint::reach("effect.after");
        let transaction = if matches!(ended, Ended::Returned(Ok(_))) { context.into_transaction() } else { None };
        (ended, transaction)
    };
    match tokio::spawn(handler.in_current_span()).await {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => (Ended::Returned(Err(panicked(&*error.into_panic()))), None),
        Err(_) => (Ended::Stopped(StopReason::Draining), None),
    }
}

/// Settles the message of a run that has lasted a while and is claimed: from then on its lease is what stands for it, and
/// no time-out of the broker can reach it. Never ends by itself.
async fn settle_early(engine: &Engine, run: &Run) {
    tokio::time::sleep(engine.ack_after).await;
    if run.hold(&engine.runs).await.is_ok()
        && let Some(receipt) = run.take_receipt()
    {
        receipt.done();
    }
    std::future::pending().await
}
