//! Accepting jobs: many requests share one commit, and each is answered after it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload_common::batch::Batcher;
use offload_common::clock;
use offload_common::job::NewJob;
use offload_common::publisher::Publisher;
use offload_common::store::{Accepted, Error, Store};
use tokio::time::timeout;

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
    patience: Duration,
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
    /// Writes to `store` and then publishes. A request waits for `patience` at most.
    pub(crate) fn spawn(store: Arc<dyn Store>, publisher: Publisher, patience: Duration) -> Self {
        let writer = Writer { store, publisher, patience };
        let batcher = Batcher::spawn(WRITERS, MAX_JOBS, move |batch| {
            let writer = writer.clone();
            async move { writer.write(batch).await }
        });
        Self { batcher, patience }
    }

    /// Accepts a job: answers once it is committed.
    pub(crate) async fn accept(&self, job: NewJob) -> Outcome {
        let pending = Pending { job, deadline: clock::instant() + self.patience };
        match timeout(self.patience, self.batcher.submit(pending)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_closed)) => Err(Problem::shutting_down()),
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
        let outcome = |in_time: bool| match accepted.next().filter(|_| in_time) {
            Some((accepted, job)) => accepted.map(|accepted| (job, accepted)),
            None => Err(Problem::database_unavailable()),
        };
        in_time.into_iter().map(outcome).collect()
    }

    /// Accepts in as few commits as it takes. A batch that the store refuses is halved until the guilty job is alone.
    async fn accept(&self, jobs: &[NewJob]) -> Vec<Result<Accepted, Problem>> {
        let mut results = Vec::with_capacity(jobs.len());
        let mut ranges: Vec<Range<usize>> = commits(jobs);
        ranges.reverse();
        while let Some(range) = ranges.pop() {
            match self.accept_together(&jobs[range.clone()]).await {
                Ok(accepted) => {
                    let dispatches = accepted.iter().filter_map(|accepted| match accepted {
                        Accepted::New { dispatch, .. } => dispatch.clone(),
                        Accepted::Repeated(_) | Accepted::KeyReused => None,
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
        match timeout(self.patience, self.store.accept(jobs)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(Error::Unavailable("no answer to an accept in time".to_owned())),
        }
    }
}

/// Divides jobs, in order, so that no commit carries too many bytes.
fn commits(jobs: &[NewJob]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, job) in jobs.iter().enumerate() {
        let size = job.payload.get().len();
        if index > start && bytes + size > MAX_BYTES {
            ranges.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += size;
    }
    if start < jobs.len() {
        ranges.push(start..jobs.len());
    }
    ranges
}
