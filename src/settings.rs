//! Reading what configuration is made from: the file, the environment, the flags. What it means is decided by
//! [`offload_common::config::load`].

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use offload_common::config::{Config, Loaded, Override, Role, Sources, load};

use crate::exit::UsageError;

/// The file that is read where none is named, if it is there.
const FILE: &str = "offload.toml";

/// Loads the configuration of a process.
///
/// # Errors
/// Where the named file cannot be read, or the configuration is wrong.
pub(crate) fn read(named: Option<&Path>, role: Role, flags: Vec<Override>) -> anyhow::Result<Loaded> {
    let sources = Sources { role, file: file(named)?, environment: environment(), flags };
    Ok(load(&sources)?)
}

/// What `--listen` sets for this process.
pub(crate) fn listen(role: Role, address: Option<String>) -> Vec<Override> {
    let flag = |address: String| Override { flag: "--listen", key: role.listen_key(), value: address.into() };
    address.map(flag).into_iter().collect()
}

/// The value of a setting, or that it is missing and how it is given.
///
/// # Errors
/// [`UsageError`] where it is missing.
pub(crate) fn required<'a>(
    value: Option<&'a String>,
    variable: &str,
    key: &str,
    example: &str,
) -> Result<&'a str, UsageError> {
    value.map(String::as_str).ok_or_else(|| {
        UsageError(format!(
            "{variable} is not set: this process needs it, as in {variable}={example} (or {key} in {FILE}); \
             `offload dev` needs nothing"
        ))
    })
}

/// The folder of the embedded database and files, made if it is missing.
///
/// # Errors
/// Where it cannot be made.
pub(crate) fn data_folder(config: &Config) -> anyhow::Result<PathBuf> {
    let folder = &config.database.data;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the data folder {} cannot be made; choose another with --data", folder.display()))?;
    Ok(std::fs::canonicalize(folder)?)
}

fn file(named: Option<&Path>) -> anyhow::Result<Option<(String, String)>> {
    let variable = std::env::var_os("OFFLOAD_CONFIG").filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = named.map(Path::to_owned).or(variable);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => {
            let problem = format!("the configuration file {} cannot be read: {error}", path.display());
            Err(UsageError(problem).into())
        }
    }
}

fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}
