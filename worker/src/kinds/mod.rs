//! The job kinds that ship, one per file or folder. Adding one is its file and a line in [`all`].

mod callback;
mod echo;
mod exec;
mod http_call;
mod image_transform;
mod json;
mod source;
mod table_import;

use std::sync::Arc;

use offload_common::callback::BadSecret;
use offload_common::config::Config;

use crate::kind::{AnyKind, erase};

pub use self::exec::BadExecKind;

/// The configuration asks for kinds that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum KindsError {
    /// What is to sign callbacks cannot.
    #[error("the configuration's callbacks cannot be signed")]
    Callbacks(#[source] BadSecret),
    /// A `[kinds.NAME]` is named like a kind that is compiled in.
    #[error("kinds.{0:?}: `{0}` is the name of a built-in kind; choose another")]
    NameTaken(String),
    /// Two kinds that are compiled in have the same name.
    #[error("two kinds in this program are called `{0}`; rename one")]
    Twice(String),
    /// A `[kinds.NAME]` is not fit to be a kind.
    #[error("kinds.{name:?} is not fit to be a kind")]
    Exec {
        /// Its name.
        name: String,
        /// What is wrong with it.
        #[source]
        reason: BadExecKind,
    },
}

/// Every kind that this program offers under `config`: those that ship, those of the program's `own`, and one per program
/// that the configuration names.
///
/// # Errors
/// [`KindsError`] naming the part of the configuration that is at fault.
pub fn all(config: &Config, own: &[Arc<dyn AnyKind>]) -> Result<Vec<Arc<dyn AnyKind>>, KindsError> {
    let mut kinds = vec![
        erase(callback::Delivery::new(config).map_err(KindsError::Callbacks)?),
        erase(echo::Echo),
        erase(http_call::HttpCall::new(&config.egress)),
        erase(image_transform::ImageTransform),
        erase(table_import::TableImport::new(&config.imports)),
    ];
    for kind in own {
        if kinds.iter().any(|other| other.spec().name == kind.spec().name) {
            return Err(KindsError::Twice(kind.spec().name.clone()));
        }
        kinds.push(kind.clone());
    }
    let compiled = kinds.len();
    for (name, program) in &config.kinds {
        if kinds[..compiled].iter().any(|kind| kind.spec().name == *name) {
            return Err(KindsError::NameTaken(name.clone()));
        }
        let kind = exec::Exec::new(name, program).map_err(|reason| KindsError::Exec { name: name.clone(), reason })?;
        kinds.push(Arc::new(kind));
    }
    Ok(kinds)
}
