//! `offload dev`: the embedded backend.

use std::net::SocketAddr;
use std::path::Path;

use offload_common::config::{Override, Role};

use crate::cli::DevArgs;
use crate::embedded::Embedded;
use crate::exit::Exit;
use crate::lifecycle::Stop;
use crate::{OwnKinds, listen, output, settings, telemetry};

/// Runs it until a signal.
pub(crate) async fn run(file: Option<&Path>, own: &OwnKinds, args: DevArgs) -> anyhow::Result<Exit> {
    let mut flags = settings::listen(Role::Embedded, args.listen.listen);
    if let Some(data) = args.data {
        flags.push(Override {
            flag: "--data",
            key: "database.data",
            value: data.to_string_lossy().into_owned().into(),
        });
    }
    let config = settings::read(file, Role::Embedded, flags)?.config;
    telemetry::start(&config.log)?;
    let stop = Stop::on_signals()?;
    let backend = Embedded::start(&config, own, &stop).await?;
    banner(backend.address, &config.database.data)?;
    backend.ended().await?;
    Ok(stop.exit())
}

fn banner(address: SocketAddr, data: &Path) -> std::io::Result<()> {
    let url = listen::url(address);
    output::line(format_args!(
        "\
Offload listens on {url}

  data         {}
  documents    {url}/docs
  web demo     {url}/demo/
  first job    curl -s '{url}/v1/jobs' -H 'content-type: application/json' -H 'prefer: wait=10' \\
                 -d '{{\"kind\": \"echo\", \"payload\": {{\"value\": \"hello\"}}}}'
  or           offload submit echo '{{\"value\": \"hello\"}}' --wait --server {url}
  stop         Ctrl-C
",
        data.display()
    ))
}
