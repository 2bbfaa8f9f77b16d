//! Reading lists of jobs, and no more of them at once than a process should hold.

use offload_common::RawJson;
use offload_common::job::Job;
use offload_common::store::{self, JobFilter, Store};

/// A list ends where its jobs take more than this many bytes.
const MOST_BYTES: usize = 8 << 20;

/// Jobs that are read in one statement.
const AT_ONCE: usize = 250;

/// The newest jobs that a filter matches, as many as it allows, and whether there are more. The list ends early where its jobs
/// take many bytes, but not before the first.
pub(crate) async fn newest_jobs(store: &dyn Store, filter: &JobFilter) -> store::Result<(Vec<Job>, bool)> {
    let limit = filter.limit as usize;
    let (mut jobs, mut bytes, mut rest) = (Vec::new(), 0, filter.clone());
    loop {
        // One more than is wanted tells whether there are more.
        let asked = (limit - jobs.len() + 1).min(AT_ONCE);
        rest.limit = u32::try_from(asked).unwrap_or(u32::MAX);
        let read = store.jobs(&rest).await?;
        let is_last = read.len() < asked;
        for job in read {
            bytes += size(&job);
            if jobs.len() == limit || (bytes > MOST_BYTES && !jobs.is_empty()) {
                return Ok((jobs, true));
            }
            rest.before = Some(job.id);
            jobs.push(job);
        }
        if is_last {
            return Ok((jobs, false));
        }
    }
}

/// What clients gave to a job, and what it came to. The rest is small.
fn size(job: &Job) -> usize {
    let texts = [Some(&job.payload), job.result.as_ref(), job.metadata.as_ref()];
    texts.into_iter().flatten().map(|text: &RawJson| text.get().len()).sum()
}
