//! From configuration to parts: the only place that knows which stores, brokers and file storages exist.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use offload_api::Api;
use offload_common::broker::Broker;
use offload_common::broker::in_process::InProcessBroker;
use offload_common::broker::rabbitmq::RabbitBroker;
use offload_common::config::Config;
use offload_common::files::Files;
use offload_common::files::local::LocalFiles;
use offload_common::kind::{KindCatalog, KindSpec};
use offload_common::publisher::Publisher;
use offload_common::store::audit::Audit;
use offload_common::store::postgres::{PostgresAudit, PostgresStore};
use offload_common::store::sqlite::{SqliteAudit, SqliteStore};
use offload_common::store::{Retention, Store};
use offload_worker::kind::AnyKind;
use offload_worker::{Worker, WorkerParts};
use uuid::Uuid;

use crate::exit::UsageError;
use crate::{OwnKinds, settings};

/// How long connections may take to close in good order.
const CLOSING: Duration = Duration::from_secs(3);

/// The file of the embedded database, in its folder.
const DATABASE: &str = "offload.db";

/// What a process works with.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    publisher: Publisher,
    files: Files,
    kinds: Vec<Arc<dyn AnyKind>>,
}

impl Parts {
    /// Everything in this process and in one folder.
    ///
    /// # Errors
    /// Where the folder cannot be used, or the configuration names an impossible kind.
    pub(crate) async fn embedded(config: &Config, own: &OwnKinds) -> anyhow::Result<Self> {
        let kinds = kinds(config, own)?;
        let folder = settings::data_folder(config)?;
        let store = SqliteStore::open(&folder.join(DATABASE)).await?;
        Self::assemble(Arc::new(store), Arc::new(InProcessBroker::new()), &folder.join("files"), kinds).await
    }

    /// PostgreSQL, RabbitMQ and a shared folder. Connects in the background: none of them needs to be there yet.
    ///
    /// # Errors
    /// Where an address is missing, the folder cannot be used, or the configuration names an impossible kind.
    pub(crate) async fn services(config: &Config, own: &OwnKinds, role: &str) -> anyhow::Result<Self> {
        let kinds = kinds(config, own)?;
        let instance = instance(role);
        let store = postgres(config, &instance)?;
        let url =
            settings::required(config.broker.url.as_ref(), "AMQP_URL", "broker.url", "amqp://user:password@host/%2f")?;
        let broker = RabbitBroker::open(&config.broker, url, &instance)?;
        Self::assemble(Arc::new(store), Arc::new(broker), &shared_folder(config)?, kinds).await
    }

    async fn assemble(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        folder: &Path,
        kinds: Vec<Arc<dyn AnyKind>>,
    ) -> anyhow::Result<Self> {
        let blobs = LocalFiles::open(folder.to_owned()).await;
        let blobs = blobs.with_context(|| format!("the files folder {} cannot be used", folder.display()))?;
        let files = Files::new(Arc::new(blobs), store.clone());
        let publisher = Publisher::spawn(broker.clone());
        Ok(Self { store, broker, publisher, files, kinds })
    }

    /// The HTTP intake over these parts.
    pub(crate) fn api(&self, config: &Config) -> Api {
        Api {
            store: self.store.clone(),
            broker: self.broker.clone(),
            publisher: self.publisher.clone(),
            files: self.files.clone(),
            specs: self.kinds.iter().map(|kind| kind.spec().clone()).collect(),
            queues: config.queues.keys().cloned().collect(),
            config: config.server.clone(),
            jobs: config.jobs.clone(),
            callbacks: config.callbacks.clone(),
            files_config: config.files.clone(),
            demo: false,
        }
    }

    /// A worker over these parts.
    pub(crate) fn worker(&self, config: &Config) -> Worker {
        let configured = config.queues.keys().cloned().collect();
        let queues = if config.worker.queues.is_empty() { configured } else { config.worker.queues.clone() };
        Worker::new(WorkerParts {
            store: self.store.clone(),
            broker: self.broker.clone(),
            publisher: self.publisher.clone(),
            files: self.files.clone(),
            kinds: self.kinds.clone(),
            queues,
            config: config.worker.clone(),
            jobs: config.jobs.clone(),
            retention: retention(config),
            host: host(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Publishes what is left to publish, and closes the connections.
    pub(crate) async fn close(self) {
        self.publisher.flush(CLOSING).await;
        self.broker.close(CLOSING).await;
        self.store.close().await;
    }
}

/// The database that is to be migrated.
///
/// # Errors
/// Where its address is missing.
pub(crate) fn postgres(config: &Config, instance: &str) -> anyhow::Result<PostgresStore> {
    let example = "postgres://user:password@host/database";
    let url = settings::required(config.database.url.as_ref(), "DATABASE_URL", "database.url", example)?;
    Ok(PostgresStore::open(&config.database, url, instance)?)
}

/// The auditor's view of the database of `offload dev` in this folder, or else of the configured one.
///
/// # Errors
/// Those of the store, and where no database is named.
pub(crate) async fn audit(config: &Config, folder: Option<&Path>) -> anyhow::Result<Box<dyn Audit>> {
    if let Some(folder) = folder {
        return Ok(Box::new(SqliteAudit::open(&folder.join(DATABASE)).await?));
    }
    let Some(url) = &config.database.url else {
        let problem = "DATABASE_URL is not set: name the database to be checked by it, as in \
                       DATABASE_URL=postgres://user:password@host/database, or the folder of an embedded one by --data";
        return Err(UsageError(problem.to_owned()).into());
    };
    Ok(Box::new(PostgresAudit::connect(&config.database, url, &instance("verify")).await?))
}

/// Every kind of job that this program offers.
///
/// # Errors
/// Where one of them is impossible.
pub(crate) fn specs(config: &Config, own: &OwnKinds) -> anyhow::Result<Vec<KindSpec>> {
    Ok(kinds(config, own)?.iter().map(|kind| kind.spec().clone()).collect())
}

/// A name for this process and no other, also where a container's next life has the same host name and process id.
pub(crate) fn instance(role: &str) -> String {
    let life = Uuid::now_v7().simple().to_string();
    format!("offload-{role}@{}:{}:{}", host(), std::process::id(), &life[24..])
}

fn kinds(config: &Config, own: &OwnKinds) -> anyhow::Result<Vec<Arc<dyn AnyKind>>> {
    let kinds = offload_worker::kinds::all(config, own)?;
    // Compiled here once, so that a bad schema of the operator's ends the start and not a request.
    KindCatalog::new(kinds.iter().map(|kind| kind.spec().clone()))?;
    Ok(kinds)
}

/// The folder that `files.url` names. Where it names none, a folder of this machine's, which only does while every process
/// runs here.
fn shared_folder(config: &Config) -> anyhow::Result<PathBuf> {
    let Some(url) = &config.files.url else {
        let folder = settings::data_folder(config)?.join("files");
        tracing::warn!(
            folder = %folder.display(),
            "FILES_URL is not set: files are kept on this machine, where processes on others do not find them"
        );
        return Ok(folder);
    };
    let path = reqwest::Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
    path.with_context(|| format!("files.url `{url}` names no folder"))
}

pub(crate) fn retention(config: &Config) -> Retention {
    let days = |days: f64| Duration::from_secs_f64(days * 86_400.0);
    Retention {
        jobs: days(config.jobs.retention_days),
        files: days(config.files.retention_days),
        idempotency_keys: Duration::from_secs_f64(config.jobs.idempotency_hours * 3600.0),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
