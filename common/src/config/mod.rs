//! Configuration, one section per file. `default.toml` is the defaults and their documentation; a file, the
//! environment and flags override it, in that order.

mod broker;
mod callbacks;
mod database;
mod egress;
mod environment;
mod files;
mod imports;
mod jobs;
mod kinds;
mod layer;
mod load;
mod log;
mod origin;
mod server;
mod show;
mod validate;
mod worker;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use broker::{BrokerConfig, QueueType};
pub use callbacks::CallbacksConfig;
pub use database::DatabaseConfig;
pub use egress::EgressConfig;
pub use files::FilesConfig;
pub use imports::ImportsConfig;
pub use jobs::JobsConfig;
pub use kinds::ExecKindConfig;
pub use load::{DEFAULT, Loaded, Override, Role, Sources, load};
pub use log::{LogConfig, LogFormat};
pub use origin::{ConfigError, Origin, Origins, Problem};
pub use server::ServerConfig;
pub use show::without_password;
pub use worker::WorkerConfig;

/// Everything that can be configured. There are no defaults in the types: `default.toml` gives every value.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The HTTP side.
    pub server: ServerConfig,
    /// Where jobs are remembered.
    pub database: DatabaseConfig,
    /// What carries them.
    pub broker: BrokerConfig,
    /// Where files live.
    pub files: FilesConfig,
    /// Defaults and limits of jobs.
    pub jobs: JobsConfig,
    /// What signs callbacks.
    pub callbacks: CallbacksConfig,
    /// The worker side.
    pub worker: WorkerConfig,
    /// What `http.call` may reach.
    pub egress: EgressConfig,
    /// What `table.import` may write.
    pub imports: ImportsConfig,
    /// The queues, by name. `default` is always there.
    pub queues: BTreeMap<String, QueueConfig>,
    /// The kinds that run a program, by name.
    pub kinds: BTreeMap<String, ExecKindConfig>,
    /// What is logged.
    pub log: LogConfig,
}

/// A queue. Its name is all there is to say so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {}
