//! An Offload of its own: a database, queues and processes that nothing else uses, and that leave nothing behind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use offload_common::clock;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::cpu::Cpu;
use crate::http::{Connection as Http, get};
use crate::options::Options;
use crate::process::{Process, last_words};

/// How long anything may take that takes no time to speak of, and the pause between two looks.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// A database of its own on the server.
pub(crate) struct Database {
    server: String,
    name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn create(options: &Options) -> anyhow::Result<Self> {
        let name = format!("offload_bench_{:016x}", rand::random::<u64>());
        let mut url = options.database.clone();
        url.set_path(&name);
        let database = Self { server: options.database.to_string(), name, url: url.to_string() };
        database.on_server(format!("CREATE DATABASE {}", database.name)).await.context("a database of its own")?;
        Ok(database)
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let mut connection = PgConnection::connect(&self.url).await?;
        // A look at a queue is a look into its index, however little the planner knows of it yet.
        sqlx::query("SET enable_seqscan = off").execute(&mut connection).await?;
        Ok(connection)
    }

    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        self.on_server(format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }

    async fn on_server(&self, sql: String) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.server).await.context("PostgreSQL")?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}

/// An Offload, and the processes of it that run.
pub(crate) struct Site {
    program: PathBuf,
    folder: TempDir,
    environment: Vec<(String, String)>,
    database: Database,
    /// For the looks that the benchmark takes itself.
    pub(crate) connection: PgConnection,
    amqp: String,
    prefix: String,
    api: Option<Process>,
    workers: Vec<Process>,
}

impl Site {
    /// A migrated database, and nothing that runs.
    pub(crate) async fn create(options: &Options, program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = Database::create(options).await?;
        let prefix = format!("bench-{:016x}", rand::random::<u64>());
        let files = format!("file://{}", folder.path().join("files").display());
        let variables = [
            ("DATABASE_URL", database.url.as_str()),
            ("AMQP_URL", options.amqp.as_str()),
            ("FILES_URL", &files),
            ("OFFLOAD_BROKER__PREFIX", &prefix),
            ("OFFLOAD_WORKER__SLOTS", &options.slots.to_string()),
        ];
        let environment: Vec<_> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Process::run(program, folder.path(), &environment, &["migrate"]).await?;
        let connection = database.connect().await?;
        let (program, amqp) = (program.to_owned(), options.amqp.to_string());
        let (api, workers) = (None, Vec::new());
        Ok(Self { program, folder, environment, database, connection, amqp, prefix, api, workers })
    }

    /// Starts the API, and waits until it is ready.
    pub(crate) async fn start_api(&mut self) -> anyhow::Result<SocketAddr> {
        let api = self.start(&["api", "--listen", "127.0.0.1:0"], true).await?;
        let address = api.address.context("the API says where it listens")?;
        self.api = Some(api);
        let begun = clock::instant();
        while Http::open(address).await?.ask(&get("/readyz")).await?.0 != 200 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the API does not become ready");
            sleep(LOOK).await;
        }
        Ok(address)
    }

    /// Starts workers, and waits until they are members.
    pub(crate) async fn start_workers(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let worker = self.start(&["worker"], false).await?;
            self.workers.push(worker);
        }
        let members = "SELECT count(*) FROM offload.workers WHERE left_at IS NULL AND reaped_at IS NULL";
        let begun = clock::instant();
        while sqlx::query_scalar::<_, i64>(members).fetch_one(&mut self.connection).await? < count as i64 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the workers do not join");
            sleep(LOOK).await;
        }
        Ok(())
    }

    async fn start(&self, arguments: &[&str], listens: bool) -> anyhow::Result<Process> {
        Process::start(&self.program, self.folder.path(), &self.environment, arguments, listens).await
    }

    /// Waits until every job that is due has ended; looks every now and then.
    pub(crate) async fn wait_for_the_last(&mut self, every: Duration) -> anyhow::Result<()> {
        let open = "SELECT EXISTS (SELECT FROM offload.jobs WHERE state = 'queued')
            OR EXISTS (SELECT FROM offload.jobs WHERE state = 'running')
            OR EXISTS (SELECT FROM offload.jobs WHERE state = 'scheduled' AND queue = 'default'
                       AND priority IN ('high', 'normal', 'low') AND kind = 'echo' AND run_at < now() + interval '1 day')";
        while sqlx::query_scalar::<_, bool>(open).fetch_one(&mut self.connection).await? {
            sleep(every).await;
        }
        Ok(())
    }

    /// The processor time that everybody has used so far.
    pub(crate) fn cpu(&self) -> Option<Cpu> {
        let pids = |processes: &[Process]| processes.iter().filter_map(Process::pid).collect::<Vec<_>>();
        let api: Vec<u32> = self.api.iter().filter_map(Process::pid).collect();
        Cpu::read(&api, &pids(&self.workers))
    }

    /// The last that its processes had to say.
    pub(crate) fn last_words(&self) -> String {
        last_words(self.folder.path())
    }

    /// Ends the processes.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        for process in self.api.take().into_iter().chain(self.workers.drain(..)) {
            process.stop().await?;
        }
        Ok(())
    }

    /// Ends the processes, and removes what they used.
    pub(crate) async fn remove(mut self) -> anyhow::Result<()> {
        let stopped = self.stop().await;
        let queues = delete_queues(&self.amqp, &self.prefix).await;
        drop(self.connection);
        self.database.drop().await?;
        queues?;
        stopped
    }
}

async fn delete_queues(amqp: &str, prefix: &str) -> anyhow::Result<()> {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await.context("RabbitMQ")?;
    let channel = connection.create_channel().await?;
    for queue in ["default.high", "default.normal", "default.low", "parked"] {
        // Deleting what is not there is no error.
        channel.queue_delete(format!("{prefix}.{queue}").into(), QueueDeleteOptions::default()).await?;
    }
    channel.exchange_delete(format!("{prefix}.signals").into(), ExchangeDeleteOptions::default()).await?;
    Ok(connection.close(200, "done".into()).await?)
}
