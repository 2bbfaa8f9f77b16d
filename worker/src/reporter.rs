//! Writes what handlers say while they run: at most four times a second per job, many jobs at a time, and the last of it
//! before the job's end. Whoever follows the job is told.

use std::sync::Arc;
use std::time::Duration;

use offload_common::batch::{Batcher, parts};
use offload_common::broker::Broker;
use offload_common::job::Lease;
use offload_common::store::{Error, Report, Store};
use offload_common::{clock, panics, retry};
use tokio::time::timeout;

use crate::finisher::announce;
use crate::run::{Run, Runs};

// Jobs per statement, and bytes of what they said (unless a single one said more).
const MOST: usize = 500;
const MOST_BYTES: usize = 16 << 20;
// What is said within this time is written together.
const PAUSE: Duration = Duration::from_millis(250);
// In a run that lasts, within this part of its age: what it says over a day is thousands of rows, not hundreds of thousands.
const PART_OF_AGE: u32 = 1_000;
// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
// The end of a job waits this long for the last that it said.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// Writes reports. There is one writer, so that those of a job arrive in order.
pub(crate) struct Reporter {
    batches: Batcher<(Arc<Run>, Lease), Result<(), Error>>,
}

impl Reporter {
    /// Starts the writer.
    pub(crate) fn spawn(store: Arc<dyn Store>, broker: Arc<dyn Broker>) -> Self {
        let batches = Batcher::spawn(1, MOST, move |batch: Vec<(Arc<Run>, Lease)>| {
            let (store, broker) = (store.clone(), broker.clone());
            async move {
                let jobs: Vec<_> = batch.iter().map(|(run, _)| run.job).collect();
                let written = write(&*store, batch).await;
                let told = jobs.into_iter().zip(&written).filter(|(_, written)| written.is_ok());
                announce(&*broker, told.map(|(job, _)| job).collect()).await;
                written
            }
        });
        Self { batches }
    }

    /// Writes what a run reports as it comes, and claims the run first. Never ends by itself.
    pub(crate) async fn follow(&self, run: &Arc<Run>, runs: &Runs) {
        loop {
            run.reports.arrived().await;
            let age = clock::instant().duration_since(run.started);
            tokio::time::sleep(PAUSE.max(age / PART_OF_AGE)).await;
            let Ok(lease) = run.hold(runs).await else { break };
            // What could not be written waits for the next time.
            let _ = self.batches.submit((run.clone(), lease)).await;
        }
        std::future::pending().await
    }

    /// Writes what is left, before the end of the run is written: afterwards, nothing would be taken.
    pub(crate) async fn conclude(&self, run: &Arc<Run>, runs: &Runs) {
        if run.reports.is_settled() {
            return;
        }
        let Ok(lease) = run.hold(runs).await else { return };
        let attempt = async || self.batches.submit((run.clone(), lease)).await.unwrap_or(Ok(()));
        let written = retry::until_reached("writing the reports of a job", LONGEST_PAUSE, attempt);
        if timeout(LAST_WORDS, written).await.is_err() {
            tracing::warn!("the last that this job said could not be written, and is left out");
        }
    }
}

async fn write(store: &dyn Store, batch: Vec<(Arc<Run>, Lease)>) -> Vec<Result<(), Error>> {
    let taken: Vec<Option<Report>> = batch.iter().map(|(run, lease)| run.reports.take(*lease)).collect();
    let reports: Vec<Report> = taken.iter().flatten().cloned().collect();
    let mut outcomes = write_each(store, &reports).await.into_iter();
    let mut written = Vec::with_capacity(batch.len());
    for ((run, _), report) in batch.iter().zip(taken) {
        let Some(report) = report else {
            written.push(Ok(()));
            continue;
        };
        written.push(match outcomes.next().unwrap_or(Ok(())) {
            Err(away @ (Error::Unavailable(_) | Error::NotMigrated(_))) => {
                run.reports.put_back(report);
                Err(away)
            }
            refused => {
                if let Err(error) = refused {
                    tracing::warn!(job.id = %run.job, %error, "a report was refused and is left out");
                }
                run.reports.written();
                Ok(())
            }
        });
    }
    written
}

/// What became of each. One that the store does not take holds up no other.
async fn write_each(store: &dyn Store, reports: &[Report]) -> Vec<Result<(), Error>> {
    let bytes = |report: &Report| report.said.iter().map(|said| said.what.text().len()).sum();
    let mut each = Vec::with_capacity(reports.len());
    for part in parts(reports, MOST_BYTES, bytes) {
        let part = &reports[part];
        match try_once(store, part).await {
            Ok(()) => each.extend(part.iter().map(|_| Ok(()))),
            Err(error) if part.len() == 1 => each.push(Err(error)),
            Err(_) => {
                for report in part {
                    each.push(try_once(store, std::slice::from_ref(report)).await);
                }
            }
        }
    }
    each
}

/// What makes this program panic would do so again, like what the store refuses.
async fn try_once(store: &dyn Store, reports: &[Report]) -> Result<(), Error> {
    panics::caught(store.report(reports)).await.unwrap_or_else(|why| Err(Error::Rejected(why)))
}
