//! What became of the jobs that a job runs after, for its program: a file of JSON, since standard input is the payload's.

use std::io::Write as _;

use offload_common::RawJson;
use offload_common::job::{ErrorInfo, JobId, State};
use offload_common::store::ParentEnd;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::kind::{Context, JobError};

/// An entry of the file, in the order that the client gave.
#[derive(Serialize)]
struct Parent<'a> {
    job: JobId,
    state: State,
    result: Option<&'a RawJson>,
    error: Option<&'a ErrorInfo>,
    left_out: bool,
}

impl<'a> From<&'a ParentEnd> for Parent<'a> {
    fn from(end: &'a ParentEnd) -> Self {
        let ParentEnd { job, state, result, error, left_out } = end;
        Self { job: *job, state: *state, result: result.as_ref(), error: error.as_ref(), left_out: *left_out }
    }
}

/// The file; none for a job that runs after none.
pub(super) async fn file(job: &Context) -> Result<Option<NamedTempFile>, JobError> {
    let ends = job.parents().await?;
    if ends.is_empty() {
        return Ok(None);
    }
    let written = tokio::task::spawn_blocking(move || write(&ends)).await;
    let written = written.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)));
    written
        .map(Some)
        .map_err(|error| JobError::retry("exec", format!("the file of its parents cannot be written: {error}")))
}

fn write(ends: &[ParentEnd]) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix("offload-parents-").suffix(".json").tempfile()?;
    serde_json::to_writer(&mut file, &ends.iter().map(Parent::from).collect::<Vec<_>>())?;
    file.flush()?;
    Ok(file)
}
