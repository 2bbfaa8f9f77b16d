//! The section `[files]`: where files live.

use serde::{Deserialize, Serialize};

/// Where files live.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// `file:///path` of a folder that all processes share; `FILES_URL` in the environment.
    pub url: Option<String>,
    /// The longest file, in bytes.
    pub max_bytes: u64,
    /// Days that a file is kept.
    pub retention_days: f64,
}
