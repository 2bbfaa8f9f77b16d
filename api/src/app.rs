//! What every handler shares.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload_common::broker::Broker;
use offload_common::clock;
use offload_common::config::{FilesConfig, JobsConfig, ServerConfig};
use offload_common::files::Files;
use offload_common::job::{Job, JobId};
use offload_common::publisher::Publisher;
use offload_common::store::{self, Store};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::BatchWatches;
use crate::catalog::{Catalog, Known};
use crate::hub::Hub;
use crate::intake::Intake;
use crate::listing::ListWatches;
use crate::problem::Problem;
use crate::request::TENANT;
use crate::server::Api;
use crate::submission::Rules;
use crate::valve::Valve;

/// The parts of a running intake.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) files: Files,
    pub(crate) catalog: Catalog,
    pub(crate) intake: Intake,
    pub(crate) publisher: Publisher,
    /// Large batches are written one at a time.
    pub(crate) large_batches: Semaphore,
    pub(crate) valve: Arc<Valve>,
    pub(crate) hub: Hub,
    pub(crate) batches: BatchWatches,
    pub(crate) lists: ListWatches,
    pub(crate) queues: Vec<String>,
    pub(crate) server: ServerConfig,
    pub(crate) jobs: JobsConfig,
    /// Whether callbacks may do without a secret of their own.
    pub(crate) signs: bool,
    pub(crate) files_config: FilesConfig,
    /// Whether `/demo/` is there.
    pub(crate) demo: bool,
    pub(crate) stop: CancellationToken,
    /// Open WebSockets: they are no connections of the HTTP server any more, but are to be closed before it ends.
    pub(crate) sockets: TaskTracker,
}

impl App {
    /// Starts the tasks that requests rely on; they end with `stop`, or when the last request is answered.
    pub(crate) fn start(api: Api, stop: CancellationToken) -> Arc<Self> {
        let Api {
            store,
            broker,
            publisher,
            files,
            specs,
            mut queues,
            config: server,
            jobs,
            callbacks,
            files_config,
            demo,
        } = api;
        let patience = Duration::from_secs_f64(server.request_timeout_seconds);
        queues.sort();
        Arc::new(Self {
            // It may be read twice for a request, and is not all that the request asks for.
            catalog: Catalog::new(specs, store.clone(), patience / 3),
            intake: Intake::spawn(store.clone(), publisher.clone(), patience),
            publisher,
            large_batches: Semaphore::new(1),
            valve: Valve::spawn(store.clone(), jobs.window, stop.clone()),
            batches: BatchWatches::new(store.clone(), patience, stop.clone()),
            lists: ListWatches::new(store.clone(), patience, stop.clone()),
            hub: Hub::spawn(store.clone(), broker.clone(), patience, stop.clone()),
            store,
            broker,
            files,
            queues,
            server,
            jobs,
            signs: callbacks.signs(),
            files_config,
            demo,
            stop,
            sockets: TaskTracker::new(),
        })
    }

    /// What submissions are held against.
    pub(crate) fn rules<'a>(&'a self, known: &'a Known) -> Rules<'a> {
        Rules { known, queues: &self.queues, limits: &self.jobs, signs: self.signs }
    }

    /// When a request that begins to ask the database now is to be answered at the latest.
    pub(crate) fn deadline(&self) -> Instant {
        clock::instant() + Duration::from_secs_f64(self.server.request_timeout_seconds)
    }

    /// Waits for an answer of the store, but not for longer than a request may take.
    pub(crate) async fn ask<T>(&self, answer: impl Future<Output = store::Result<T>>) -> Result<T, Problem> {
        self.ask_until(self.deadline(), answer).await
    }

    /// The same for a request that has asked the store before.
    pub(crate) async fn ask_until<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = store::Result<T>>,
    ) -> Result<T, Problem> {
        match timeout_at(deadline.into(), answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(store::Error::Unavailable("no answer in time".to_owned()).into()),
        }
    }

    /// Reads a job.
    pub(crate) async fn job(&self, id: JobId) -> Result<Job, Problem> {
        self.job_until(self.deadline(), id).await
    }

    /// The same for a request that has asked the store before.
    pub(crate) async fn job_until(&self, deadline: Instant, id: JobId) -> Result<Job, Problem> {
        let job = self.ask_until(deadline, self.store.job(TENANT, id)).await?;
        job.ok_or_else(|| Problem::not_found(format_args!("there is no job {id}")))
    }

    /// Reads a job; if it is not final, waits for that and reads it again.
    pub(crate) async fn job_after(&self, id: JobId, at_most: Duration) -> Result<Job, Problem> {
        let job = self.job(id).await?;
        if job.state.is_final() || at_most.is_zero() {
            return Ok(job);
        }
        self.hub.until_final(&job, at_most).await;
        self.job(id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_not_waited_for() {
        let app = TestApp::start_with(|settings| settings.server.request_timeout_seconds = 0.01).await;
        let app = App::start(app.another().await, app.stop.clone());
        let problem = app.ask(std::future::pending::<store::Result<()>>()).await.expect_err("no answer");
        assert_eq!(problem.kind(), ProblemType::DatabaseUnavailable);
    }
}
