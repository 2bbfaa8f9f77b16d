//! The job kinds that ship, one per file or folder. Adding one is its file and a line in [`builtin`].

mod echo;
mod http_call;
mod json;

use std::sync::Arc;

use offload_common::config::Config;

use crate::kind::{AnyKind, erase};

/// The configuration asks for kinds that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum KindsError {}

/// Every kind that this program offers under `config`.
///
/// # Errors
/// [`KindsError`] naming the part of the configuration that is at fault.
pub fn builtin(config: &Config) -> Result<Vec<Arc<dyn AnyKind>>, KindsError> {
    Ok(vec![erase(echo::Echo), erase(http_call::HttpCall::new(&config.egress))])
}
