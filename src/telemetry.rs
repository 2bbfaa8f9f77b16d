//! Logging, to standard error, so that standard output stays for results.

use std::io;

use offload_common::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::UsageError;
use crate::output;

/// Starts logging as configured, to standard error.
///
/// # Errors
/// [`UsageError`] where the filter is none.
pub(crate) fn start(config: &LogConfig) -> Result<(), UsageError> {
    start_on(config, io::stderr)
}

/// Starts logging as configured, to a writer of one's own.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_on<W>(config: &LogConfig, writer: W) -> Result<(), UsageError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(config)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A subscriber that is there already belongs to whoever started this process's runtime; logging then goes there.
    let _ = match config.format {
        LogFormat::Text => builder.with_ansi(output::colours(&io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// The filter that is configured.
///
/// # Errors
/// [`UsageError`] where it is none.
pub(crate) fn filter(config: &LogConfig) -> Result<EnvFilter, UsageError> {
    EnvFilter::try_new(&config.filter).map_err(|error| {
        UsageError(format!(
            "log.filter (OFFLOAD_LOG): `{}` is no filter: {error}; expected something like `info` or `offload_worker=debug,warn`",
            config.filter
        ))
    })
}

/// Starts logging for a client command: only what it must be told.
pub(crate) fn quiet() -> Result<(), UsageError> {
    start(&LogConfig { filter: "warn".to_owned(), format: LogFormat::Text })
}
