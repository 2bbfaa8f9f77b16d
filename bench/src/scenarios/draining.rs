//! How fast two workers work off a backlog that was there before them.

use std::time::Duration;

use crate::figures::Figures;
use crate::options::Options;
use crate::rows::{self, Like};
use crate::site::Site;

/// Workers.
const WORKERS: usize = 2;
/// Between two looks for the last job.
const LOOK: Duration = Duration::from_millis(250);

/// By the database's own times of the first start and the last end.
pub(super) async fn measure(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    let backlog = options.backlog.unwrap_or(options.count(300_000.0) as u64);
    rows::fill(site, &[(Like::Due, backlog)]).await?;
    let began: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(&mut site.connection)
        .await?;
    let cpu = site.cpu();
    site.start_workers(WORKERS).await?;
    site.wait_for_the_last(LOOK).await?;
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, backlog as usize));
    let span = "SELECT count(*), extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM offload.jobs
        WHERE state = 'succeeded' AND finished_at >= to_timestamp($1)";
    let (count, seconds): (i64, f64) = sqlx::query_as(span).bind(began).fetch_one(&mut site.connection).await?;
    anyhow::ensure!(count == backlog as i64, "{count} jobs succeeded, and not {backlog}");
    Ok(Figures { cpu_us, ..Figures::rate(backlog as usize, Duration::from_secs_f64(seconds)) })
}
