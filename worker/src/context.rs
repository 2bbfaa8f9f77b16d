//! What a handler has at hand while it runs.

use std::ops::DerefMut;

use offload_common::files::{ByteStream, Files};
use offload_common::job::{FileId, JobId};
use offload_common::store::{FileRecord, Transaction};
use tokio_util::sync::CancellationToken;

use crate::kind::JobError;

/// The job that is running, and what it may use.
pub struct Context {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// At most this many.
    pub max_attempts: u32,
    /// The W3C `traceparent` of the request that submitted it.
    pub traceparent: Option<String>,
    pub(crate) files: Files,
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// Reports how far it has come, 0.0 to 1.0. Cheap: reports are coalesced.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        let _ = (fraction, message.into());
        unreachable!("the executor's part")
    }

    /// Writes a line to the job's log; `level` is `debug`, `info`, `warn` or `error`.
    pub fn log(&self, level: &'static str, message: impl Into<String>) {
        let _ = (level, message.into());
        unreachable!("the executor's part")
    }

    /// Fires when the handler is to stop: cancelled, timed out, draining, or its lease lost. Async handlers are dropped
    /// anyway; code in [`Context::compute`] looks at it between steps.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs CPU-bound code off the async threads, as many at once as there are compute slots.
    ///
    /// # Errors
    /// What `work` answers; a panic in it is a failed attempt with code `panic`.
    pub async fn compute<T, F>(&self, work: F) -> Result<T, JobError>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, JobError> + Send + 'static,
    {
        let _ = work;
        unreachable!("the executor's part")
    }

    /// The transaction that commits with this job's success, opened (and the job claimed) at the first call. An error
    /// of the handler rolls it back.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`], or a retry when the database is not available.
    pub async fn transaction(&self) -> Result<impl DerefMut<Target = Box<dyn Transaction>> + '_, JobError> {
        Err::<tokio::sync::MappedMutexGuard<'_, Box<dyn Transaction>>, _>(JobError::LeaseLost)
    }

    /// A file's record.
    ///
    /// # Errors
    /// Final with code `file_not_found` if the tenant has no such file; a retry when the storage is not available.
    pub async fn file(&self, id: FileId) -> Result<FileRecord, JobError> {
        let found = self.files.record(&self.tenant, id).await.map_err(|e| JobError::retry("storage", e))?;
        found.ok_or_else(|| JobError::fail("file_not_found", format!("there is no file {id}")))
    }

    /// Streams a file's content.
    ///
    /// # Errors
    /// As [`Context::file`].
    pub async fn read_file(&self, id: FileId) -> Result<ByteStream, JobError> {
        self.file(id).await?;
        self.files.content(id, None).await.map_err(|e| JobError::retry("storage", e))
    }

    /// Stores a file that this job produced.
    ///
    /// # Errors
    /// A retry when the storage is not available.
    pub async fn save_file(&self, content_type: &str, content: ByteStream) -> Result<FileRecord, JobError> {
        let saved = self.files.save(&self.tenant, content_type, content, u64::MAX).await;
        saved.map_err(|e| JobError::retry("storage", e))
    }
}
