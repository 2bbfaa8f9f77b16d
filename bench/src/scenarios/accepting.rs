//! How many jobs can be accepted while nobody works them off.

use super::single;
use crate::figures::Figures;
use crate::load::{self, Until};
use crate::options::Options;
use crate::site::Site;

pub(super) async fn measure(options: &Options, site: &mut Site, connections: usize) -> anyhow::Result<Figures> {
    let address = site.start_api().await?;
    load::run(address, connections, Until::Time(options.time(0.5)), 202, single).await?;
    let cpu = site.cpu();
    let loaded = load::run(address, connections, Until::Time(options.time(5.0)), 202, single).await?;
    let cpu_us = site.cpu().zip(cpu).map(|(now, then)| now.per_job(then, loaded.requests));
    Ok(Figures { cpu_us, ..Figures::rate(loaded.requests, loaded.elapsed).latencies(loaded.times) })
}
