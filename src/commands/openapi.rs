//! `offload openapi`: the document that `GET /openapi.json` answers, without a server.

use std::path::Path;

use offload_common::config::Role;

use crate::exit::Exit;
use crate::{OwnKinds, output, settings, telemetry, wiring};

/// Prints it.
pub(crate) fn run(file: Option<&Path>, own: &OwnKinds) -> anyhow::Result<Exit> {
    telemetry::quiet()?;
    let config = settings::read(file, Role::Api, Vec::new())?.config;
    let document = offload_api::openapi(&wiring::specs(&config, own)?);
    output::line(serde_json::to_string_pretty(&document)?)?;
    Ok(Exit::Success)
}
