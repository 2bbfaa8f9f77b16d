//! `offload verify`: whether a database keeps what Offload promises.

mod inputs;
mod print;

use std::path::Path;
use std::time::Duration;

use offload_common::audit::{self, Plan};
use offload_common::config::{Config, Role};
use offload_common::store::Error;

use crate::cli::VerifyArgs;
use crate::exit::{Exit, NotReady, UsageError};
use crate::{settings, telemetry, wiring};

/// What is allowed to reaping and stealing beyond the lease and the drain of a worker.
const MARGIN: Duration = Duration::from_secs(10);

/// Audits, and prints what that came to.
pub(crate) async fn run(file: Option<&Path>, args: VerifyArgs) -> anyhow::Result<Exit> {
    let config = settings::read(file, Role::Worker, Vec::new())?.config;
    telemetry::start(&config.log)?;
    let plan = plan(&config, &args)?;
    let outcome = match wiring::audit(&config, args.data.as_deref()).await {
        Ok(database) => {
            let outcome = audit::run(&*database, plan).await;
            database.close().await;
            outcome.map_err(anyhow::Error::new)
        }
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(explained)?;
    if let (Some(file), Some(record)) = (&args.state, &outcome.record) {
        inputs::write_record(file, record)?;
    }
    if args.json {
        print::json(&outcome)?
    } else {
        print::text(&outcome)?
    }
    Ok(if outcome.is_clean() { Exit::Success } else { Exit::Error })
}

fn plan(config: &Config, args: &VerifyArgs) -> anyhow::Result<Plan> {
    let lease = Duration::from_secs_f64(config.worker.lease_seconds);
    let watch = lease.max(Duration::from_secs(config.worker.drain_seconds)) + MARGIN;
    let ledger = args.ledger.as_deref().map(inputs::ledger).transpose()?;
    Ok(Plan {
        retention: wiring::retention(config).jobs,
        lease,
        window: config.jobs.window,
        overdue: Duration::from_secs(args.overdue),
        watch: args.watch.map_or(watch, Duration::from_secs),
        accepted: args.accepted.as_deref().map(inputs::accepted).transpose()?.unwrap_or_default(),
        ledger: ledger.map(|ledger| (ledger, args.ledger_kind.clone())),
        record: args.state.as_deref().map(inputs::record).transpose()?,
    })
}

/// What an error of the store means to whoever asked for the audit.
fn explained(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Error>() {
        Some(Error::Unavailable(_) | Error::NotMigrated(_)) => NotReady(error.to_string()).into(),
        Some(Error::Rejected(why)) => UsageError(why.clone()).into(),
        Some(Error::Corrupt(_)) | None => error,
    }
}
