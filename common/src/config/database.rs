//! The section `[database]`: where jobs are remembered.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where jobs are remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://…`; `DATABASE_URL` in the environment. `offload dev` and `demo` do not look at it.
    pub url: Option<String>,
    /// The folder of the embedded database and files, for `offload dev`.
    pub data: PathBuf,
    /// PostgreSQL connections per process, 4 at least.
    pub max_connections: u32,
    /// PostgreSQL's `statement_timeout`, in seconds.
    pub statement_timeout_seconds: f64,
}
