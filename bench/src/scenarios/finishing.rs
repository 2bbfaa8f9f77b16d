//! From the first request to the end of the last job: one job per request, and many.

use std::time::Duration;

use anyhow::ensure;
use offload_common::clock;

use super::{single, submission};
use crate::figures::Figures;
use crate::http::post;
use crate::load::{self, Until};
use crate::options::Options;
use crate::site::Site;

/// Jobs that go through before anything is measured, so that connections are open and caches are warm.
const WARM_UP: usize = 2_000;
/// Between two looks for the last job.
const LOOK: Duration = Duration::from_millis(20);
/// Jobs in a request, and requests at once.
const PER_REQUEST: usize = 2_000;
const BULK_CONNECTIONS: usize = 2;

/// One job per request, on 64 connections.
pub(super) async fn one_by_one(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    let jobs = options.count(60_000.0);
    throughput(options, site, jobs, 64, 1, 202, single).await
}

/// Many jobs in each request, as lines.
pub(super) async fn in_bulk(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    let requests = options.count(200_000.0).div_ceil(PER_REQUEST);
    let lines = |request: usize| (0..PER_REQUEST).map(move |line| submission(request * PER_REQUEST + line));
    let bulk = move |n: usize| {
        let body: String = lines(n).flat_map(|line| [line, "\n".to_owned()]).collect();
        post("/v1/batches", "application/x-ndjson", "", &body)
    };
    throughput(options, site, requests, BULK_CONNECTIONS, PER_REQUEST, 202, bulk).await
}

async fn throughput(
    options: &Options,
    site: &mut Site,
    requests: usize,
    connections: usize,
    jobs_each: usize,
    status: u16,
    request: impl Fn(usize) -> Vec<u8> + Copy + Send + Sync + 'static,
) -> anyhow::Result<Figures> {
    let address = site.start_api().await?;
    site.start_workers(1).await?;
    let warm_up = options.count((WARM_UP / jobs_each) as f64);
    load::run(address, connections, Until::Count(warm_up), status, request).await?;
    site.wait_for_the_last(LOOK).await?;
    checkpoint(site).await;

    let (cpu, begun) = (site.cpu(), clock::instant());
    load::run(address, connections, Until::Count(requests), status, request).await?;
    site.wait_for_the_last(LOOK).await?;
    let (elapsed, jobs) = (begun.elapsed(), requests * jobs_each);
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, jobs));

    let succeeded = "SELECT count(*) FROM offload.jobs WHERE state = 'succeeded' AND result IS NOT NULL";
    let succeeded: i64 = sqlx::query_scalar(succeeded).fetch_one(&mut site.connection).await?;
    let expected = jobs as u64 + (warm_up * jobs_each) as u64 + options.finished + u64::from(rows_were_made(options));
    ensure!(succeeded == expected as i64, "{succeeded} jobs succeeded, and not {expected}");
    Ok(Figures { cpu_us, ..Figures::rate(jobs, elapsed) })
}

/// Whether there is a job besides, from which rows were copied.
fn rows_were_made(options: &Options) -> bool {
    options.finished + options.scheduled > 0
}

/// So that none falls into the measurement by chance. Who may not ask for it goes without.
async fn checkpoint(site: &mut Site) {
    let _ = sqlx::raw_sql("CHECKPOINT").execute(&mut site.connection).await;
}
