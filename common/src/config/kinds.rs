//! The section `[kinds]`: kinds that run a program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A kind that runs a program: `[kinds.NAME]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecKindConfig {
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// One sentence for people.
    #[serde(default)]
    pub description: Option<String>,
    /// The JSON Schema of the payload; any object unless given.
    #[serde(default)]
    pub payload_schema: Option<serde_json::Value>,
    /// The JSON Schema of the result.
    #[serde(default)]
    pub result_schema: Option<serde_json::Value>,
    /// The queue it goes to unless the request names one.
    #[serde(default)]
    pub queue: Option<String>,
    /// Attempts unless the request says how many.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// Seconds per attempt unless the request says how many.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// The most memory the program may use, in bytes (`RLIMIT_AS`).
    #[serde(default)]
    pub max_memory_bytes: Option<u64>,
    /// The most it may write to its standard output, in bytes; 16 MiB unless given.
    #[serde(default)]
    pub max_output_bytes: Option<u64>,
    /// Whether starting it twice does no harm.
    #[serde(default)]
    pub repeatable: bool,
    /// Its working directory.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Its environment, beside `PATH`, `HOME`, `LANG`, `OFFLOAD_JOB_ID`, `OFFLOAD_ATTEMPT` and `TRACEPARENT`. Nothing
    /// else is passed on.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}
