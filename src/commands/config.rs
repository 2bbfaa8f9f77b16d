//! `offload config`: what is in force.

use std::path::Path;

use offload_common::config::{DEFAULT, Role};

use crate::cli::ConfigArgs;
use crate::exit::Exit;
use crate::{OwnKinds, output, settings, telemetry, wiring};

/// Prints the configuration.
pub(crate) fn run(file: Option<&Path>, own: &OwnKinds, args: ConfigArgs) -> anyhow::Result<Exit> {
    if args.default {
        output::line(DEFAULT.trim_end())?;
    } else {
        let loaded = settings::read(file, Role::Api, Vec::new())?;
        // What every process checks at its start, so that a configuration that shows is one that runs.
        wiring::specs(&loaded.config, own)?;
        telemetry::filter(&loaded.config.log)?;
        output::line(loaded.show()?.trim_end())?;
    }
    Ok(Exit::Success)
}
