//! `offload config`: what is in force.

use std::path::Path;

use offload_common::config::{DEFAULT, Role};

use crate::cli::ConfigArgs;
use crate::exit::Exit;
use crate::{output, settings};

/// Prints the configuration.
pub(crate) fn run(file: Option<&Path>, args: ConfigArgs) -> anyhow::Result<Exit> {
    if args.default {
        output::line(DEFAULT.trim_end())?;
    } else {
        output::line(settings::read(file, Role::Api, Vec::new())?.show()?.trim_end())?;
    }
    Ok(Exit::Success)
}
