//! What an API and a worker cost while nothing is to be done.

use std::time::Duration;

use offload_common::clock;
use tokio::time::sleep;

use crate::figures::Figures;
use crate::options::Options;
use crate::site::Site;

/// Until everything that a start takes has happened.
const SETTLE: Duration = Duration::from_secs(3);

/// Statements per second, and processor time per second in microseconds: 10,000 are a hundredth of a core.
pub(super) async fn measure(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    site.start_api().await?;
    site.start_workers(1).await?;
    sleep(options.time(1.0).min(SETTLE).max(SETTLE.mul_f64(options.scale.min(1.0)))).await;
    let (cpu, statements, begun) = (site.cpu(), statements(site).await?, clock::instant());
    sleep(options.time(30.0)).await;
    let seconds = begun.elapsed().as_secs_f64();
    let more = self::statements(site).await? - statements;
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, seconds.round().max(1.0) as usize));
    Ok(Figures { statements: Some(more / seconds), cpu_us, ..Figures::default() })
}

/// Every statement is a transaction of its own here; the few that are not count as one.
async fn statements(site: &mut Site) -> anyhow::Result<f64> {
    let transactions =
        "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = current_database()";
    Ok(sqlx::query_scalar(transactions).fetch_one(&mut site.connection).await?)
}
