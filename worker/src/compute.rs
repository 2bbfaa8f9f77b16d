//! CPU-bound work: off the async threads, as many at once as there are compute slots.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::kind::JobError;
use crate::outcome;

/// The pool for CPU-bound work.
#[derive(Clone)]
pub(crate) struct Compute {
    slots: Arc<Semaphore>,
}

impl Compute {
    /// With this many slots; 0 means one per core.
    pub(crate) fn new(slots: u32) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let slots = if slots == 0 { cores() } else { slots as usize };
        Self { slots: Arc::new(Semaphore::new(slots)) }
    }

    /// Runs `work` once a slot is free. The slot is held until the work really ends: a caller that goes away (cancelled,
    /// timed out) frees nothing before. Work whose `stop` fired while it waited does not start.
    pub(crate) async fn run<T, F>(&self, stop: &CancellationToken, work: F) -> Result<T, JobError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, JobError> + Send + 'static,
    {
        // The semaphore is never closed.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stop, span) = (stop.clone(), tracing::Span::current());
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            if stop.is_cancelled() {
                return Err(JobError::retry("stopped", "told to stop before it started"));
            }
            span.in_scope(work)
        });
        match done.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => Err(outcome::panicked(&*error.into_panic())),
            Err(_) => Err(JobError::retry("stopped", "the process is stopping")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::transition::Retry;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_slot_is_held_until_the_work_ends_though_its_caller_is_gone() {
        let compute = Compute::new(1);
        let (started, entered) = tokio::sync::oneshot::channel();
        let (release, gate) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let compute = compute.clone();
            let work = move || {
                started.send(()).expect("the test waits");
                gate.recv().map_err(|error| JobError::fail("gate", error))
            };
            async move { compute.run(&CancellationToken::new(), work).await }
        });
        entered.await.expect("started");
        first.abort();
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(compute.slots.available_permits(), 0);
        release.send(()).expect("it waits");
        assert_eq!(compute.run(&CancellationToken::new(), || Ok(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt() {
        let outcome =
            Compute::new(1).run(&CancellationToken::new(), || -> Result<(), _> { panic!("lens cap on") }).await;
        let Err(JobError::Failed(failure)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((failure.code.as_str(), failure.retry), ("panic", Retry::Backoff));
        assert!(failure.message.contains("lens cap on"));
    }

    #[tokio::test]
    async fn work_that_was_stopped_while_it_waited_does_not_start() {
        let stop = CancellationToken::new();
        stop.cancel();
        let outcome = Compute::new(1).run(&stop, || -> Result<(), _> { panic!("started") }).await;
        assert!(matches!(outcome, Err(JobError::Failed(failure)) if failure.code == "stopped"));
    }
}
