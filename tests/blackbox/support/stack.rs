//! A whole Offload of a test's own: processes over fresh data, gone when the test ends.

use std::net::SocketAddr;
use std::path::Path;

use offload_common::testing::database::TestDatabase;
use offload_common::testing::{Proxy, eventually};
use reqwest::Url;
use tempfile::TempDir;

use super::{Client, Process, messages, queues};

/// The two ways to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// `offload dev`.
    Embedded,
    /// `offload api` and `offload worker` over PostgreSQL and RabbitMQ.
    Services,
}

/// The kinds that the suites define by configuration.
const KINDS: &str = r#"
[kinds."test.upper"]
command = ["sh", "-c", "echo reading >&2; echo 'progress 0.5 halfway' >&2; tr '[:lower:]' '[:upper:]'"]
timeout_seconds = 20

[kinds."test.flaky"]
command = ["sh", "-c", "cat >/dev/null; [ \"$OFFLOAD_ATTEMPT\" -ge 2 ] || exit 75; echo \"{\\\"attempt\\\": $OFFLOAD_ATTEMPT}\""]

[kinds."test.broken"]
command = ["sh", "-c", "cat >/dev/null; echo 'out of paper' >&2; exit 3"]

[kinds."test.parents"]
command = ["sh", "-c", "cat >/dev/null; cat \"$OFFLOAD_PARENTS\""]

[kinds."test.killer"]
command = ["sh", "-c", "cat >/dev/null; kill -9 $PPID; sleep 600"]

[kinds."test.sleeper"]
command = ["sh", "-c", "cat >/dev/null; sleep 600 & echo \"child $!\" >&2; wait"]

[kinds."test.gate"]
command = ["sh", "-c", "cat >/dev/null; touch FOLDER/started; until [ -e FOLDER/go ]; do sleep 0.05; done; touch FOLDER/ended; echo 1"]
"#;

/// What a stack is to be like.
pub(crate) struct StackBuilder {
    backend: Backend,
    workers: usize,
    proxies: bool,
    environment: Vec<(String, String)>,
}

impl StackBuilder {
    /// A stack with one worker and the defaults.
    pub(crate) fn new(backend: Backend) -> Self {
        Self { backend, workers: 1, proxies: false, environment: Vec::new() }
    }

    /// With so many workers (the embedded backend always has its one).
    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// With a proxy before PostgreSQL and one before RabbitMQ.
    pub(crate) fn proxies(self) -> Self {
        Self { proxies: true, ..self }
    }

    /// With a variable in the environment of every process.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Workers that are missed after 3 s.
    pub(crate) fn short_lease(self) -> Self {
        self.with("OFFLOAD_WORKER__HEARTBEAT_SECONDS", "0.5").with("OFFLOAD_WORKER__LEASE_SECONDS", "3")
    }

    /// Starts it, and waits until it is ready and its workers are there.
    pub(crate) async fn start(self) -> Stack {
        let mut stack = self.prepare().await;
        match stack.backend {
            Backend::Embedded => stack.start_api("offload dev", &["dev", "--listen", "127.0.0.1:0"]).await,
            Backend::Services => {
                stack.migrate().await;
                stack.start_api("offload api", &["api", "--listen", "127.0.0.1:0"]).await;
                for _ in 0..stack.wanted_workers {
                    stack.start_worker();
                }
            }
        }
        stack.client().ready().await;
        stack.client().workers(stack.wanted_workers).await;
        stack
    }

    /// Makes everything that the processes need, and starts none.
    pub(crate) async fn prepare(mut self) -> Stack {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kinds = KINDS.replace("FOLDER", folder.path().to_str().expect("readable"));
        std::fs::write(folder.path().join("offload.toml"), kinds).expect("written");
        let data = folder.path().join("data");
        self = self
            .with("OFFLOAD_DATA", data.to_str().expect("readable"))
            .with("OFFLOAD_EGRESS_ALLOW", "127.0.0.0/8")
            .with("OFFLOAD_LOG", "info");
        let services = match self.backend {
            Backend::Embedded => None,
            Backend::Services => Some(Services::new(self.proxies).await),
        };
        if let Some(services) = &services {
            let files = Url::from_directory_path(folder.path().join("files")).expect("an absolute path");
            self = self
                .with("DATABASE_URL", services.database_url().as_str())
                .with("AMQP_URL", services.amqp_url().as_str())
                .with("FILES_URL", files.as_str())
                .with("OFFLOAD_BROKER__PREFIX", &services.prefix)
                // Two tests run at a time, on a server that may serve others too.
                .with("OFFLOAD_DATABASE__MAX_CONNECTIONS", "5");
        }
        Stack {
            backend: self.backend,
            wanted_workers: self.workers,
            environment: self.environment,
            api: None,
            workers: Vec::new(),
            client: None,
            services,
            folder,
        }
    }
}

/// A running Offload. Fields are dropped in order: processes before what they use.
pub(crate) struct Stack {
    backend: Backend,
    wanted_workers: usize,
    environment: Vec<(String, String)>,
    pub(crate) api: Option<Process>,
    pub(crate) workers: Vec<Process>,
    client: Option<Client>,
    pub(crate) services: Option<Services>,
    folder: TempDir,
}

impl Stack {
    /// A client of its API.
    pub(crate) fn client(&self) -> &Client {
        self.client.as_ref().expect("the API was started")
    }

    /// The folder that its processes run in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for a file that a program makes in the folder.
    pub(crate) async fn file_appears(&self, name: &str) {
        let path = self.folder().join(name);
        eventually(&format!("the file {name} appears"), async || path.exists().then_some(())).await;
    }

    /// Where its database is, for the test's own look at it.
    pub(crate) fn database_url(&self) -> String {
        self.services.as_ref().expect("it runs on services").database.url()
    }

    /// The services it runs on.
    pub(crate) fn services(&self) -> &Services {
        self.services.as_ref().expect("it runs on services")
    }

    /// Runs `offload migrate`.
    pub(crate) async fn migrate(&self) {
        Process::run("offload migrate", self.folder(), &self.environment, &["migrate"]).await;
    }

    /// Runs `offload verify`; answers its exit code and the document that it prints.
    pub(crate) async fn verify(&self, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
        let arguments = [&["verify", "--json"], arguments].concat();
        let output = Process::output(self.folder(), &self.environment, &arguments).await;
        let said = serde_json::from_slice(&output.stdout);
        (output.status.code(), said.unwrap_or_else(|error| panic!("{error}: {output:?}")))
    }

    /// Starts the process that has the API, and waits until it listens.
    pub(crate) async fn start_api(&mut self, name: &str, arguments: &[&str]) {
        let mut api = Process::start(name, self.folder(), &self.environment, arguments);
        let address = api.address().await;
        self.client = Some(Client::new(address));
        self.api = Some(api);
    }

    /// Starts a further API beside the first; answers it with a client of it.
    pub(crate) async fn start_another_api(&self) -> (Process, Client) {
        let mut api =
            Process::start("another api", self.folder(), &self.environment, &["api", "--listen", "127.0.0.1:0"]);
        let address = api.address().await;
        (api, Client::new(address))
    }

    /// Takes a variable out of the environment of the processes that are started next.
    pub(crate) fn without(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    /// Starts a further worker.
    pub(crate) fn start_worker(&mut self) -> &mut Process {
        let name = format!("worker {}", self.workers.len() + 1);
        self.workers.push(Process::start(&name, self.folder(), &self.environment, &["worker"]));
        self.workers.last_mut().expect("one was pushed")
    }

    /// The worker process that holds this running job.
    pub(crate) async fn worker_of(&mut self, job: &serde_json::Value) -> usize {
        let workers = self.client().workers(self.workers.len()).await;
        let worker = workers.iter().find(|worker| worker["id"] == job["worker"]).expect("it is live");
        let pid = worker["pid"].as_u64().expect("a number");
        self.workers.iter().position(|process| u64::from(process.id()) == pid).expect("it is one of this stack's")
    }
}

/// PostgreSQL and RabbitMQ, as one test sees them.
pub(crate) struct Services {
    pub(crate) database: TestDatabase,
    pub(crate) prefix: String,
    amqp: Url,
    proxies: Option<(Proxy, Proxy)>,
}

impl Services {
    async fn new(proxies: bool) -> Self {
        let amqp = std::env::var("OFFLOAD_TEST_AMQP_URL")
            .expect("OFFLOAD_TEST_AMQP_URL is not set: run the tests through scripts/test, which sets it");
        let amqp = Url::parse(&amqp).expect("OFFLOAD_TEST_AMQP_URL is a URL");
        let database = TestDatabase::create().await;
        let prefix = format!("test-{:016x}", rand::random::<u64>());
        let proxies = if proxies {
            let database = Url::parse(&database.url()).expect("a URL");
            Some((Proxy::start(target(&database, 5432).await).await, Proxy::start(target(&amqp, 5672).await).await))
        } else {
            None
        };
        Self { database, prefix, amqp, proxies }
    }

    /// The way to PostgreSQL.
    pub(crate) fn database_proxy(&self) -> &Proxy {
        &self.proxies.as_ref().expect("it has proxies").0
    }

    /// The way to RabbitMQ.
    pub(crate) fn broker_proxy(&self) -> &Proxy {
        &self.proxies.as_ref().expect("it has proxies").1
    }

    /// Deletes the queues, whatever is in them.
    pub(crate) async fn delete_queues(&self) {
        queues::delete(self.amqp.as_str(), &self.prefix).await.expect("deleted");
    }

    /// Puts a message into one of its queues.
    pub(crate) async fn put(&self, queue: &str, body: &[u8]) {
        messages::put(self.amqp.as_str(), &format!("{}.{queue}", self.prefix), body).await.expect("published");
    }

    /// How many messages of one of its queues wait for a consumer; `None` where there is no such queue.
    pub(crate) async fn ready(&self, queue: &str) -> Option<u32> {
        messages::ready(self.amqp.as_str(), &format!("{}.{queue}", self.prefix)).await.ok()
    }

    fn database_url(&self) -> Url {
        let url = Url::parse(&self.database.url()).expect("a URL");
        self.proxies.as_ref().map_or(url.clone(), |(database, _)| through(url, database.addr()))
    }

    fn amqp_url(&self) -> Url {
        self.proxies.as_ref().map_or(self.amqp.clone(), |(_, broker)| through(self.amqp.clone(), broker.addr()))
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let (url, prefix) = (self.amqp.to_string(), self.prefix.clone());
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // The virtual host is thrown away by scripts/test in any case.
            let _ = runtime.block_on(queues::delete(&url, &prefix));
            std::io::Result::Ok(())
        });
        let _ = cleaning.join();
    }
}

async fn target(url: &Url, port: u16) -> SocketAddr {
    let address = (url.host_str().expect("a host"), url.port().unwrap_or(port));
    tokio::net::lookup_host(address).await.expect("it resolves").next().expect("an address")
}

fn through(mut url: Url, proxy: SocketAddr) -> Url {
    url.set_ip_host(proxy.ip()).expect("an address");
    url.set_port(Some(proxy.port())).expect("a port");
    url
}
