//! A whole Offload of one run: api and worker processes, each behind proxies of its own to PostgreSQL and RabbitMQ.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use futures_util::future::join_all;
use offload_common::testing::Proxy;
use reqwest::Url;
use tempfile::TempDir;

use super::node::{Node, Role};
use super::process::Process;
use super::program::program;
use super::site::Site;

/// The table that the jobs of kind `fault.ledger` write to. It has no constraint: what is written twice is to be seen.
const LEDGER: &str = "CREATE TABLE fault_ledger (job uuid, attempt integer, process integer, at timestamptz)";

/// What a fleet is to be like.
pub(crate) struct FleetBuilder {
    apis: usize,
    workers: usize,
    environment: Vec<(String, String)>,
}

impl FleetBuilder {
    /// So many processes of either role, with the defaults.
    pub(crate) fn new(apis: usize, workers: usize) -> Self {
        let environment = vec![("OFFLOAD_LOG".to_owned(), "info,lapin=off,sqlx::postgres::notice=warn".to_owned())];
        Self { apis, workers, environment }
    }

    /// With a variable in the environment of every process.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Workers that are missed after 3 s, and that drain within 5.
    pub(crate) fn short_times(self) -> Self {
        self.with("OFFLOAD_WORKER__HEARTBEAT_SECONDS", 0.5)
            .with("OFFLOAD_WORKER__LEASE_SECONDS", 3)
            .with("OFFLOAD_WORKER__DRAIN_SECONDS", 5)
            .with("OFFLOAD_SERVER__DRAIN_SECONDS", 5)
    }

    /// Starts it over a new database and under a new prefix.
    pub(crate) async fn start(self, site: Site) -> Fleet {
        let name = format!("run_{:016x}", rand::random::<u64>());
        let postgres = site.postgres().read().await;
        postgres.create_database(&name).await;
        let (database_url, database) = (postgres.url(&name), postgres.address());
        let mut connection = postgres.connect(&name).await;
        sqlx::raw_sql(LEDGER).execute(&mut connection).await.expect("created");
        drop(postgres);
        let rabbitmq = site.rabbitmq().read().await;
        let (broker_url, broker) = (rabbitmq.url(), rabbitmq.address());
        drop(rabbitmq);

        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = Url::from_directory_path(folder.path().join("files")).expect("an absolute path");
        let starts = folder.path().join("starts.log");
        let (apis, workers) = (self.apis, self.workers);
        let common = self
            .with("FILES_URL", files)
            .with("OFFLOAD_BROKER__PREFIX", &name)
            .with("FAULTS_STARTS", starts.display())
            .environment;
        let direct = [&common[..], &[("DATABASE_URL".to_owned(), database_url.clone())]].concat();
        migrate(folder.path(), &direct).await;

        let places =
            (1..=apis).map(|number| (Role::Api, number)).chain((1..=workers).map(|number| (Role::Worker, number)));
        let start = async |(role, number)| {
            let (database, broker) = (Proxy::start(database).await, Proxy::start(broker).await);
            let mut environment = common.clone();
            environment.push(("DATABASE_URL".to_owned(), through(&database_url, &database)));
            environment.push(("AMQP_URL".to_owned(), through(&broker_url, &broker)));
            let node = Node::new(role, number, folder.path(), environment, database, broker);
            node.life().await.start(&[]).await;
            Arc::new(node)
        };
        let nodes = join_all(places.map(start)).await;
        Fleet { nodes, apis, name, database_url, site, environment: direct, folder }
    }
}

async fn migrate(folder: &Path, environment: &[(String, String)]) {
    let mut process = Process::start_program(program(), "offload migrate", folder, environment, &["migrate"]);
    let status = process.exit().await;
    assert!(status.success(), "offload migrate ended with {status}");
}

fn through(url: &str, proxy: &Proxy) -> String {
    let mut url = Url::parse(url).expect("a URL");
    url.set_port(Some(proxy.addr().port())).expect("it has a port");
    url.into()
}

/// A running Offload. Fields are dropped in order: processes before what they use.
pub(crate) struct Fleet {
    nodes: Vec<Arc<Node>>,
    apis: usize,
    /// The name of its database, and the prefix of its queues.
    pub(crate) name: String,
    /// Where its database is, without any proxy.
    pub(crate) database_url: String,
    pub(crate) site: Site,
    environment: Vec<(String, String)>,
    folder: TempDir,
}

impl Fleet {
    /// Every process's place.
    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Those of the API.
    pub(crate) fn apis(&self) -> &[Arc<Node>] {
        &self.nodes[..self.apis]
    }

    /// Those of the workers.
    pub(crate) fn workers(&self) -> &[Arc<Node>] {
        &self.nodes[self.apis..]
    }

    /// The folder that its processes run in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `offload <arguments>` to its end, without a proxy before its database.
    pub(crate) async fn offload(&self, arguments: &[&str]) -> Output {
        Process::output(self.folder.path(), &self.environment, arguments).await
    }

    /// What handlers noted of their starts and ends.
    pub(crate) fn starts(&self) -> String {
        // It is not there before the first.
        std::fs::read_to_string(self.folder.path().join("starts.log")).unwrap_or_default()
    }

    /// Writes what every process wrote into a folder, a file per life.
    pub(crate) async fn write_logs(&self, folder: &Path) {
        for node in &self.nodes {
            for (life, lines) in node.life().await.logs().iter().enumerate() {
                let path = folder.join(format!("{}.{}.log", node.name().replace(' ', "-"), life + 1));
                std::fs::write(path, lines.join("\n")).expect("written");
            }
        }
    }

    /// Ends it: processes are killed, its database and queues removed, its servers kept for others.
    pub(crate) async fn end(self) {
        let Self { nodes, name, site, .. } = self;
        drop(nodes);
        site.postgres().read().await.drop_database(&name).await;
        site.rabbitmq().read().await.delete_queues(&name).await;
        site.give_back();
    }
}
