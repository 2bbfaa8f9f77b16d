//! How long a single job takes on an idle system, until the answer with its result is there.

use std::time::Duration;

use offload_common::clock;
use tokio::time::sleep;

use super::submission;
use crate::figures::Figures;
use crate::http::{Connection, post};
use crate::options::Options;
use crate::site::Site;

/// Jobs before the first that counts.
const WARM_UP: usize = 50;
/// Between an answer and the next request: the system is idle again.
pub(crate) const PAUSE: Duration = Duration::from_millis(3);

pub(super) async fn measure(options: &Options, site: &mut Site) -> anyhow::Result<Figures> {
    let address = site.start_api().await?;
    site.start_workers(1).await?;
    let mut connection = Connection::open(address).await?;
    let (mut times, jobs) = (Vec::new(), options.count(1_000.0));
    for n in 0..WARM_UP + jobs {
        let request = post("/v1/jobs", "application/json", "prefer: wait=30\r\n", &submission(n));
        let sent = clock::instant();
        connection.expect(200, &request).await?;
        if n >= WARM_UP {
            times.push(sent.elapsed().as_secs_f64() * 1e3);
        }
        sleep(PAUSE).await;
    }
    Ok(Figures::default().latencies(times))
}
