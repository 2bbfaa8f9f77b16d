//! Accepting jobs: many requests share one commit, and each is answered after it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload_common::batch::{Batcher, Unanswered, parts};
use offload_common::job::NewJob;
use offload_common::publisher::Publisher;
use offload_common::store::{Accepted, Error, Store};
use offload_common::{clock, failpoint};
use tokio::time::{timeout, timeout_at};

use crate::problem::{FieldError, Problem};

/// Writers at once: while one commits, the other fills.
const WRITERS: usize = 2;

/// Jobs per commit at most.
const MAX_JOBS: usize = 500;

/// Bytes of payload per commit at most, unless a single job has more.
const MAX_BYTES: usize = 8 << 20;

/// Where jobs are handed in.
pub(crate) struct Intake {
    batcher: Batcher<Pending, Outcome>,
}

/// A job that a request waits for. After its deadline nobody does, and it must not be written any more.
struct Pending {
    job: NewJob,
    deadline: Instant,
}

/// What became of a job, with the job itself.
type Outcome = Result<(NewJob, Accepted), Problem>;

#[derive(Clone)]
struct Writer {
    store: Arc<dyn Store>,
    publisher: Publisher,
    patience: Duration,
}

impl Intake {
    /// Writes to `store` and then publishes. A commit is waited for `patience` at most.
    pub(crate) fn spawn(store: Arc<dyn Store>, publisher: Publisher, patience: Duration) -> Self {
        let writer = Writer { store, publisher, patience };
        let batcher = Batcher::spawn(WRITERS, MAX_JOBS, move |batch| {
            let writer = writer.clone();
            async move { writer.write(batch).await }
        });
        Self { batcher }
    }

    /// Accepts a job: answers once it is committed, or that it is not known to be at the deadline.
    pub(crate) async fn accept(&self, job: NewJob, deadline: Instant) -> Outcome {
        let pending = Pending { job, deadline };
        match timeout_at(deadline.into(), self.batcher.submit(pending)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Unanswered::Closed)) => Err(Problem::shutting_down()),
            Ok(Err(Unanswered::Panicked(_))) => Err(Problem::internal()),
            Err(_late) => Err(Problem::database_unavailable()),
        }
    }
}

impl Writer {
    async fn write(&self, batch: Vec<Pending>) -> Vec<Outcome> {
        let now = clock::instant();
        let in_time: Vec<bool> = batch.iter().map(|pending| pending.deadline > now).collect();
        let jobs: Vec<NewJob> = batch.into_iter().filter(|p| p.deadline > now).map(|p| p.job).collect();
        let mut accepted = self.accept(&jobs).await.into_iter().zip(jobs);
        let mut next = || accepted.next().map(|(accepted, job)| accepted.map(|accepted| (job, accepted)));
        let outcome = |in_time: bool| in_time.then(&mut next).flatten();
        let late = || Err(Problem::database_unavailable());
        in_time.into_iter().map(outcome).map(|outcome| outcome.unwrap_or_else(late)).collect()
    }

    /// Accepts in as few commits as it takes. A batch that the store refuses is halved until the guilty job is alone.
    async fn accept(&self, jobs: &[NewJob]) -> Vec<Result<Accepted, Problem>> {
        let mut results = Vec::with_capacity(jobs.len());
        let mut ranges: Vec<Range<usize>> = parts(jobs, MAX_BYTES, |job| job.payload.get().len());
        ranges.reverse();
        while let Some(range) = ranges.pop() {
            match self.accept_together(&jobs[range.clone()]).await {
                Ok(accepted) => {
                    let dispatches = accepted.iter().filter_map(|accepted| match accepted {
                        Accepted::New { dispatch, .. } => dispatch.clone(),
                        Accepted::Repeated(_)
                        | Accepted::KeyReused
                        | Accepted::Matched(_)
                        | Accepted::Held(_)
                        | Accepted::Orphan(_) => None,
                    });
                    self.publisher.send(dispatches.collect());
                    results.extend(accepted.into_iter().map(Ok));
                }
                Err(Error::Rejected(reason)) if range.len() == 1 => {
                    tracing::info!(reason, "the database refused a job");
                    let error = FieldError::at("", "the database cannot store this job");
                    results.push(Err(Problem::validation(vec![error])));
                }
                Err(Error::Rejected(_)) => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                Err(error) => {
                    let problem = Problem::from(error);
                    results.extend(range.map(|_| Err(problem.clone())));
                }
            }
        }
        results
    }

    async fn accept_together(&self, jobs: &[NewJob]) -> Result<Vec<Accepted>, Error> {
        failpoint::reach("accept.before");
        match timeout(self.patience, self.store.accept(jobs)).await {
            Ok(accepted) => {
                failpoint::reach("accept.after");
                accepted
            }
            Err(_) => Err(Error::Unavailable("no answer to an accept in time".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use offload_common::broker::in_process::InProcessBroker;
    use offload_common::testing::factory;

    use super::*;
    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    fn writer(store: Arc<dyn Store>) -> Writer {
        let publisher = Publisher::spawn(Arc::new(InProcessBroker::new()));
        Writer { store, publisher, patience: Duration::from_secs(30) }
    }

    fn pending(job: NewJob, in_time: bool) -> Pending {
        let now = clock::instant();
        Pending { job, deadline: if in_time { now + Duration::from_secs(30) } else { now } }
    }

    #[tokio::test]
    async fn one_bad_job_does_not_take_its_neighbours_along() {
        let app = TestApp::start().await;
        let mut jobs = factory::jobs(9);
        // An id that is taken is refused by the database.
        jobs[3].id = jobs[0].id;
        jobs[7].id = jobs[0].id;
        let outcomes = writer(app.store.clone()).accept(&jobs).await;
        let refused: Vec<usize> = (0..9).filter(|index| outcomes[*index].is_err()).collect();
        assert_eq!(refused, [3, 7]);
        assert!(outcomes[3].as_ref().is_err_and(|problem| problem.kind() == ProblemType::Validation));
        assert_eq!(app.store.jobs(&factory::filter()).await.expect("listed").len(), 7);
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_any_more_is_not_written() {
        let app = TestApp::start().await;
        let jobs = factory::jobs(3);
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let batch = jobs.into_iter().zip([true, false, true]).map(|(job, in_time)| pending(job, in_time)).collect();
        let outcomes = writer(app.store.clone()).write(batch).await;
        let answered: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().ok().map(|(job, _)| job.id)).collect();
        assert_eq!(answered, [Some(ids[0]), None, Some(ids[2])]);
        let stored = app.store.jobs(&factory::filter()).await.expect("listed");
        assert_eq!(stored.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[2], ids[0]]);
    }

    /// What came before it, such as reading the registered kinds, took all the time that the request had.
    #[tokio::test]
    async fn a_request_whose_time_has_passed_is_answered_at_once() {
        let app = TestApp::start().await;
        let publisher = Publisher::spawn(Arc::new(InProcessBroker::new()));
        let intake = Intake::spawn(app.store.clone(), publisher, Duration::from_secs(30));
        let problem = intake.accept(factory::job(), clock::instant()).await.map(drop).expect_err("too late");
        assert_eq!(problem.kind(), ProblemType::DatabaseUnavailable);
        let (job, _) =
            intake.accept(factory::job(), clock::instant() + Duration::from_secs(30)).await.expect("in time");
        let stored = app.store.jobs(&factory::filter()).await.expect("listed");
        assert_eq!(stored.iter().map(|job| job.id).collect::<Vec<_>>(), [job.id]);
    }
}
