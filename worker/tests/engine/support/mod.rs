//! A bench to run workers on: a store, a broker, and kinds that tests hold in their hands.

pub(crate) mod faulty;
mod faulty_schedules;
mod kinds;

use std::sync::Arc;
use std::time::Duration;

use offload_common::broker::Broker;
use offload_common::config::{Config, WorkerConfig};
use offload_common::files::Files;
use offload_common::files::local::LocalFiles;
use offload_common::job::{Job, JobId, NewJob, State};
use offload_common::publisher::Publisher;
use offload_common::retry::RetryPolicy;
use offload_common::store::{Accepted, Dispatch, Retention, Store};
use offload_common::testing::{eventually, factory};
use offload_worker::kind::AnyKind;
use offload_worker::{Exit, StopSignals, Worker, WorkerParts};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) use kinds::{Gate, kind};

use crate::backend::Backend;

/// A store and a broker, with workers on them as a test likes.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) publisher: Publisher,
    pub(crate) files: Files,
    /// For the workers that are started next.
    pub(crate) config: WorkerConfig,
    backend: Backend,
    _folder: TempDir,
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) stop: StopSignals,
    pub(crate) probes: offload_worker::probes::Probes,
    task: JoinHandle<Exit>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let backend = Backend::open().await;
        let (store, broker) = (backend.store.clone(), backend.broker.clone());
        store.migrate().await.expect("migrated");
        let publisher = Publisher::spawn(broker.clone());
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = LocalFiles::open(folder.path().join("files")).await.expect("opened");
        let files = Files::new(Arc::new(blobs), store.clone());
        Self { store, broker, publisher, files, config: config(), backend, _folder: folder }
    }

    /// Starts a worker that offers these kinds.
    pub(crate) fn worker(&self, kinds: &[Arc<dyn AnyKind>]) -> Running {
        self.worker_on(self.store.clone(), kinds)
    }

    /// Starts a worker that sees the store through another.
    pub(crate) fn worker_on(&self, store: Arc<dyn Store>, kinds: &[Arc<dyn AnyKind>]) -> Running {
        let worker = Worker::new(WorkerParts {
            store,
            broker: self.broker.clone(),
            publisher: self.publisher.clone(),
            files: self.files.clone(),
            kinds: kinds.to_vec(),
            queues: vec!["default".into()],
            config: self.config.clone(),
            jobs: Config::defaults().jobs,
            retention: Retention { jobs: DAY, files: DAY, idempotency_keys: DAY },
            host: "test".into(),
            version: "0".into(),
        });
        let (stop, probes) = (StopSignals::default(), worker.probes());
        Running { task: tokio::spawn(worker.run(stop.clone())), stop, probes }
    }

    /// Accepts a job and publishes it.
    pub(crate) async fn submit(&self, job: NewJob) -> JobId {
        let id = job.id;
        if let Some(dispatch) = self.accept(job).await {
            self.publisher.send(vec![dispatch]);
        }
        id
    }

    /// Accepts a job, as an intake would that dies right after.
    pub(crate) async fn accept(&self, job: NewJob) -> Option<Dispatch> {
        match self.store.accept(&[job]).await.expect("accepted").remove(0) {
            Accepted::New { dispatch, .. } => dispatch,
            other => panic!("expected a new job, not {other:?}"),
        }
    }

    /// A store for another process, where there can be one.
    pub(crate) fn another_store(&self) -> Arc<dyn Store> {
        self.backend.another_store()
    }

    /// Does to workers what the loss of the broker does.
    pub(crate) fn lose_broker(&self) {
        self.backend.lose_broker();
    }

    pub(crate) async fn read(&self, id: JobId) -> Job {
        self.store.job(factory::TENANT, id).await.expect("read").expect("it is there")
    }

    /// Waits until the job says so.
    pub(crate) async fn until(&self, what: &str, id: JobId, condition: impl Fn(&Job) -> bool) -> Job {
        eventually(what, async || Some(self.read(id).await).filter(&condition)).await
    }

    pub(crate) async fn reaches(&self, id: JobId, state: State) -> Job {
        self.until(&format!("{state}"), id, |job| {
            assert!(!job.state.is_final() || job.state == state, "it ended otherwise: {job:?}");
            job.state == state
        })
        .await
    }
}

impl Running {
    /// Waits until it takes jobs.
    pub(crate) async fn ready(&self) {
        eventually("a worker that takes jobs", async || self.probes.readiness().ready.then_some(())).await;
    }

    /// Tells it to drain, and waits for its end.
    pub(crate) async fn drain(self) -> Exit {
        self.stop.drain.cancel();
        self.ended().await
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Exit {
        self.task.await.expect("no panic")
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// Quick enough for tests, and a lease that a busy machine keeps.
fn config() -> WorkerConfig {
    WorkerConfig {
        slots: 8,
        heartbeat_seconds: 0.1,
        lease_seconds: 15.0,
        lazy_claim_seconds: 0.1,
        // A message that takes its time on a busy machine is not lost.
        steal_after_seconds: 3600.0,
        ack_after_seconds: 0.2,
        ..Config::defaults().worker
    }
}

/// A job whose retries come at once.
pub(crate) fn job() -> NewJob {
    let retry_policy = RetryPolicy { first_seconds: 0.01, ..RetryPolicy::default() };
    NewJob { retry_policy, ..factory::job() }
}

/// A job whose payload is this number.
pub(crate) fn numbered(n: usize) -> NewJob {
    NewJob { payload: factory::raw(&n.to_string()), ..job() }
}
