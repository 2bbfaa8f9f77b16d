//! One file per subcommand.

mod api;
mod batch;
mod cancel;
mod config;
mod demo;
mod dev;
mod health;
mod kinds;
mod list;
mod migrate;
mod openapi;
mod schedule;
mod status;
mod submit;
mod verify;
mod wait;
mod worker;

use std::net::SocketAddr;

use crate::cli::{Cli, ClientArgs, Command, DevArgs, ServerArgs};
use crate::client::{Answer, Client, ClientError, JobView};
use crate::exit::Exit;
use crate::{OwnKinds, listen, output, telemetry};

/// Where `offload dev` listens unless told.
const SERVER: &str = "http://127.0.0.1:8080";

/// Does what the command line asks for.
pub(crate) async fn run(cli: Cli, own: &OwnKinds) -> anyhow::Result<Exit> {
    let file = cli.config.as_deref();
    match cli.command.unwrap_or_else(|| Command::Dev(DevArgs::default())) {
        Command::Dev(args) => dev::run(file, own, args).await,
        Command::Api(args) => api::run(file, own, args).await,
        Command::Worker(args) => worker::run(file, own, args).await,
        Command::Migrate(args) => migrate::run(file, args).await,
        Command::Verify(args) => verify::run(file, args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Openapi => openapi::run(file, own),
        Command::Config(args) => config::run(file, own, args),
        Command::Submit(args) => submit::run(*args).await,
        Command::Status(args) => status::run(args).await,
        Command::Wait(args) => wait::run(args).await,
        Command::Batch(args) => batch::run(args.command).await,
        Command::Cancel(args) => cancel::run(args).await,
        Command::List(args) => list::run(args).await,
        Command::Schedule(args) => schedule::run(args).await,
        Command::Kinds(args) => kinds::run(args).await,
        Command::Health(args) => health::run(args).await,
    }
}

/// The client that the arguments and `OFFLOAD_KEY` describe.
fn client(args: &ServerArgs) -> Result<Client, anyhow::Error> {
    telemetry::quiet()?;
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let server = args.server.clone().or_else(|| variable("OFFLOAD_SERVER"));
    Ok(Client::new(server.as_deref().unwrap_or(SERVER), variable("OFFLOAD_KEY"))?)
}

/// Prints a job the way that was asked for.
fn print_job(args: &ClientArgs, job: &Answer<JobView>) -> std::io::Result<()> {
    if args.json { output::line(job.raw.get()) } else { status::describe(&job.value) }
}

/// Tells people and scripts where a server listens.
fn announce(what: &str, address: SocketAddr) -> std::io::Result<()> {
    output::line(format_args!("offload {what} listens on {}", listen::url(address)))
}

/// Adds which job it was to an error about one of several.
fn about(id: offload_common::job::JobId) -> impl FnOnce(ClientError) -> anyhow::Error {
    move |error| anyhow::Error::new(error).context(format!("job {id}"))
}
