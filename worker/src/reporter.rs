//! Writes what handlers say while they run: at most four times a second per job, many jobs at a time, and the last of it
//! before the job's end.

use std::sync::Arc;
use std::time::Duration;

use offload_common::batch::Batcher;
use offload_common::job::Lease;
use offload_common::retry;
use offload_common::store::{Error, Report, Store};

use crate::run::{Run, Runs};

// Jobs per statement.
const MOST: usize = 500;
// What is said within this time is written together.
const PAUSE: Duration = Duration::from_millis(250);
// The longest pause while the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Writes reports. There is one writer, so that those of a job arrive in order.
pub(crate) struct Reporter {
    batches: Batcher<(Arc<Run>, Lease), Result<(), Error>>,
}

impl Reporter {
    /// Starts the writer.
    pub(crate) fn spawn(store: Arc<dyn Store>) -> Self {
        let batches = Batcher::spawn(1, MOST, move |batch| {
            let store = store.clone();
            async move { write(&*store, batch).await }
        });
        Self { batches }
    }

    /// Writes what a run reports as it comes, and claims the run first. Never ends by itself.
    pub(crate) async fn follow(&self, run: &Arc<Run>, runs: &Runs) {
        loop {
            run.reports.arrived().await;
            tokio::time::sleep(PAUSE).await;
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
        retry::until_reached("writing the reports of a job", LONGEST_PAUSE, attempt).await;
    }
}

async fn write(store: &dyn Store, batch: Vec<(Arc<Run>, Lease)>) -> Vec<Result<(), Error>> {
    let reports: Vec<Option<Report>> = batch.iter().map(|(run, lease)| run.reports.take(*lease)).collect();
    let mut written = store.report(&reports.iter().flatten().cloned().collect::<Vec<_>>()).await;
    if let Err(Error::Rejected(_) | Error::Corrupt(_)) = written {
        written = one_by_one(store, reports.iter().flatten()).await;
    }
    let keep = written.is_err();
    for ((run, _), report) in batch.iter().zip(reports) {
        match report {
            Some(report) if keep => run.reports.put_back(report),
            Some(_) => run.reports.written(),
            None => {}
        }
    }
    let failure = written.err().map(|error| error.to_string());
    batch.iter().map(|_| failure.clone().map_or(Ok(()), |why| Err(Error::Unavailable(why)))).collect()
}

/// One that the store refuses is left out, so that it does not hold up the others.
async fn one_by_one(store: &dyn Store, reports: impl Iterator<Item = &Report>) -> Result<(), Error> {
    for report in reports {
        match store.report(std::slice::from_ref(report)).await {
            Err(error @ (Error::Rejected(_) | Error::Corrupt(_))) => {
                tracing::warn!(job.id = %report.lease.job, %error, "a report was refused and is left out");
            }
            other => other?,
        }
    }
    Ok(())
}
