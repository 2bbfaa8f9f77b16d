//! The whole intake over an embedded store and broker, for the tests at the bottom of the other files.

mod answer;
pub(crate) mod packed;
pub(crate) mod reading;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Method, Request};
use offload_common::RawJson;
use offload_common::broker::Broker;
use offload_common::broker::in_process::InProcessBroker;
use offload_common::config::{CallbacksConfig, Config, FilesConfig, JobsConfig, ServerConfig};
use offload_common::files::Files;
use offload_common::files::local::LocalFiles;
use offload_common::job::transition::{Decision, Event, decide};
use offload_common::job::{JobId, Lease, Nonce};
use offload_common::kind::KindSpec;
use offload_common::publisher::Publisher;
use offload_common::retry::RetryPolicy;
use offload_common::store::sqlite::SqliteStore;
use offload_common::store::{Claim, Finish, Finished, Report, Session, Store, WorkerInfo};
use offload_common::testing::factory;
use schemars::JsonSchema;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use answer::Answer;

use crate::hub::Hub;
use crate::problem::ProblemType;
use crate::server::Api;

/// The payload of the kind `test.kind`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Payload {
    value: i64,
    name: Option<String>,
}

/// A running intake.
pub(crate) struct TestApp {
    pub(crate) settings: Settings,
    pub(crate) router: Router,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) broker: Arc<InProcessBroker>,
    pub(crate) stop: CancellationToken,
    pub(crate) folder: TempDir,
}

/// What may differ from the defaults.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) server: ServerConfig,
    pub(crate) jobs: JobsConfig,
    pub(crate) files: FilesConfig,
    pub(crate) migrated: bool,
    pub(crate) demo: bool,
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let Config { server, jobs, files, .. } = Config::defaults();
        let mut settings = Settings { server, jobs, files, migrated: true, demo: false };
        change(&mut settings);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Arc::new(SqliteStore::open(&folder.path().join("offload.db")).await.expect("opened"));
        if settings.migrated {
            store.migrate().await.expect("migrated");
        }
        let broker = Arc::new(InProcessBroker::new());
        let app = Self { settings, router: Router::new(), store, broker, stop: CancellationToken::new(), folder };
        Self { router: app.another().await.router(app.stop.clone()), ..app }
    }

    /// The intake of another process on the same store.
    pub(crate) async fn another(&self) -> Api {
        let Settings { server, jobs, files, demo, .. } = self.settings.clone();
        let blobs = LocalFiles::open(self.folder.path().join("files")).await.expect("opened");
        Api {
            store: self.store.clone(),
            broker: self.broker.clone(),
            publisher: Publisher::spawn(self.broker.clone() as Arc<dyn Broker>),
            files: Files::new(Arc::new(blobs), self.store.clone()),
            specs: specs(),
            queues: vec!["default".to_owned(), "reports".to_owned()],
            config: server,
            jobs,
            callbacks: CallbacksConfig::default(),
            files_config: files,
            demo,
        }
    }

    /// Sends a request to the router.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("the router answers");
        Answer::read(response).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Body::empty())).await
    }

    /// Sends JSON text as it is.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl ToString) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send(request(Method::POST, path, &all, Body::from(body.to_string()))).await
    }

    /// Submits a job that is valid apart from what `more` says; answers its id.
    pub(crate) async fn submit(&self, more: Value) -> JobId {
        let mut body = serde_json::json!({ "kind": factory::KIND, "payload": { "value": 1 } });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = self.post("/v1/jobs", &[], body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().expect("a text").parse().expect("an id")
    }

    /// Runs a queued job as a worker would, up to this event.
    pub(crate) async fn run(&self, job: JobId, event: Event, result: Option<RawJson>) {
        let (_session, lease) = self.claim(job).await;
        self.end(lease, event, result).await;
    }

    /// Ends a run as a worker would.
    pub(crate) async fn end(&self, lease: Lease, event: Event, result: Option<RawJson>) {
        let job = lease.job;
        let candidate = self.store.fetch(&[job]).await.expect("fetched").remove(0).expect("there");
        let decided = decide(&candidate.snapshot(), &event, &RetryPolicy::default(), 0.5).expect("legal");
        let Decision::Move(transition) = decided else { panic!("no transition") };
        let finish = Finish { lease, transition, result, ran_for: Duration::ZERO, linked: false };
        let finished = self.store.finish(&[finish]).await.expect("finished");
        assert!(matches!(finished[..], [Finished::Applied(_)]), "{finished:?}");
    }

    /// Starts a queued job as a worker would.
    pub(crate) async fn claim(&self, job: JobId) -> (Box<dyn Session>, Lease) {
        let session = self.store.join(&worker()).await.expect("joined");
        let candidate = self.store.fetch(&[job]).await.expect("fetched").remove(0).expect("there");
        let claim = Claim { job, epoch: candidate.epoch, nonce: Nonce::new(), running_for: Duration::ZERO };
        let leases = self.store.claim(session.worker(), &[claim]).await.expect("claimed");
        (session, leases[0].lease().expect("granted"))
    }

    /// A hub beside that of the router.
    pub(crate) fn start_hub(&self) -> Hub {
        Hub::spawn(self.store.clone(), self.broker.clone(), Duration::from_secs(10), self.stop.clone())
    }

    /// Says something as a handler would.
    pub(crate) async fn report(&self, report: Report) {
        self.store.report(&[report]).await.expect("reported");
    }
}

pub(crate) fn specs() -> Vec<KindSpec> {
    vec![KindSpec::new::<Payload, ()>(factory::KIND, "Does nothing, but needs a value.")]
}

pub(crate) fn worker() -> WorkerInfo {
    WorkerInfo { kinds: specs(), ..factory::worker(&[]) }
}

pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name.parse::<HeaderName>().expect("a name"), *value);
    }
    request.body(body).expect("a request")
}

impl Answer {
    /// Asserts that this is a problem of this type, complete as RFC 9457 has it.
    #[track_caller]
    pub(crate) fn problem(&self, kind: ProblemType) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{} {}", self.status, self.text());
        let problem = self.json();
        assert_eq!(problem["type"], kind.uri().as_str(), "{problem:#}");
        assert_eq!(problem["status"], self.status);
        assert_eq!(self.status, kind.entry().status.as_u16());
        for member in ["title", "detail", "instance", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem:#}");
        }
        problem
    }
}
