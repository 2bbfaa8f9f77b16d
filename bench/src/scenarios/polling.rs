//! How many clients can poll.

use uuid::Uuid;

use crate::figures::Figures;
use crate::http::get;
use crate::load::{self, Until};
use crate::options::Options;
use crate::rows::{self, Like};
use crate::site::Site;

/// Finished jobs at least.
const FINISHED: u64 = 10_000;
/// How many of them are asked for.
const ASKED_FOR: i64 = 10_000;

pub(super) async fn measure(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    if options.finished < FINISHED {
        rows::fill(site, &[(Like::Finished, FINISHED - options.finished)]).await?;
    }
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM offload.jobs ORDER BY md5(id::text) LIMIT $1")
        .bind(ASKED_FOR)
        .fetch_all(&mut site.connection)
        .await?;
    let address = site.start_api().await?;
    let request = move |n: usize| get(&format!("/v1/jobs/{}", ids[n % ids.len()]));
    let cpu = site.cpu();
    let loaded = load::run(address, 64, Until::Time(options.time(5.0)), 200, request).await?;
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, loaded.requests));
    Ok(Figures { cpu_us, ..Figures::rate(loaded.requests, loaded.elapsed).latencies(loaded.times) })
}
