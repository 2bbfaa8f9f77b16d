//! How throughput grows with the number of workers, on jobs that wait for something else.

use std::time::Duration;

use offload_common::clock;

use crate::figures::Figures;
use crate::http::post;
use crate::load::{self, Until};
use crate::options::Options;
use crate::site::Site;

/// Between two looks for the last job.
const LOOK: Duration = Duration::from_millis(20);

/// Jobs of 50 ms each, as many per worker whatever the number of workers. All are there before the first starts.
pub(super) async fn measure(options: &Options, site: &mut Site, workers: usize) -> anyhow::Result<Figures> {
    let address = site.start_api().await?;
    let jobs = options.count(5_000.0) * workers;
    let body = r#"{"kind":"echo","payload":{"sleep_seconds":0.05}}"#;
    let request = post("/v1/jobs", "application/json", "", body);
    load::run(address, 64, Until::Count(jobs), 202, move |_| request.clone()).await?;
    let (cpu, begun) = (site.cpu(), clock::instant());
    site.start_workers(workers).await?;
    site.wait_for_the_last(LOOK).await?;
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, jobs));
    Ok(Figures { cpu_us, ..Figures::rate(jobs, begun.elapsed()) })
}
