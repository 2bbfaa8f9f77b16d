//! What a handler has at hand while it runs.

use std::ops::DerefMut;
use std::sync::Arc;

use offload_common::callback::Callback;
use offload_common::files::ByteStream;
use offload_common::job::{FileId, JobId};
use offload_common::store::{Candidate, FileRecord, ParentEnd, Transaction};
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::Engine;
use crate::kind::JobError;
use crate::run::Run;

/// The results and errors of its parents that a job finds, in bytes.
pub(crate) const MAX_PARENT_BYTES: u64 = 16 << 20;

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
    has_parents: bool,
    engine: Arc<Engine>,
    run: Arc<Run>,
    transaction: Mutex<Option<Box<dyn Transaction>>>,
}

impl Context {
    pub(crate) fn new(engine: Arc<Engine>, run: Arc<Run>, job: &Candidate, attempt: u32) -> Self {
        Self {
            id: job.id,
            tenant: job.tenant.clone(),
            attempt,
            max_attempts: job.max_attempts,
            traceparent: job.traceparent.clone(),
            has_parents: job.has_parents,
            engine,
            run,
            transaction: Mutex::default(),
        }
    }

    /// Reports how far it has come, 0.0 to 1.0. Cheap: what is reported within a quarter of a second is written as one.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.run.reports.progress(fraction, message.into());
    }

    /// Writes a line to the job's log; `level` is `debug`, `info`, `warn` or `error`.
    pub fn log(&self, level: &'static str, message: impl Into<String>) {
        self.run.reports.line(level, message.into());
    }

    /// Fires when the handler is to stop: cancelled, timed out, draining, or its lease lost. Async handlers are dropped
    /// anyway; code in [`Context::compute`] looks at it between steps.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        self.run.stop.token()
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
        self.engine.compute.run(self.stop(), work).await
    }

    /// The transaction that commits with this job's success, opened (and the job claimed) at the first call. An error
    /// of the handler rolls it back. Let go of what this answers before calling it again.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`], or a retry when the database is not available.
    pub async fn transaction(&self) -> Result<impl DerefMut<Target = Box<dyn Transaction>> + '_, JobError> {
        let mut transaction = self.transaction.lock().await;
        if transaction.is_none() {
            let lease = self.run.hold(&self.engine.runs).await.map_err(|_| JobError::LeaseLost)?;
            *transaction = Some(self.engine.store.begin(&lease).await?);
        }
        MutexGuard::try_map(transaction, Option::as_mut).map_err(|_| JobError::LeaseLost)
    }

    /// A file's record.
    ///
    /// # Errors
    /// Final with code `file_not_found` if the tenant has no such file; a retry when the storage is not available.
    pub async fn file(&self, id: FileId) -> Result<FileRecord, JobError> {
        let found = self.engine.files.record(&self.tenant, id).await?;
        found.ok_or_else(|| JobError::fail("file_not_found", format!("there is no file {id}")))
    }

    /// Streams a file's content.
    ///
    /// # Errors
    /// As [`Context::file`].
    pub async fn read_file(&self, id: FileId) -> Result<ByteStream, JobError> {
        self.file(id).await?;
        Ok(self.engine.files.content(id, None).await?)
    }

    /// Stores a file that this job produced.
    ///
    /// # Errors
    /// A retry when the storage is not available.
    pub async fn save_file(&self, content_type: &str, content: ByteStream) -> Result<FileRecord, JobError> {
        Ok(self.engine.files.save(&self.tenant, content_type, content, u64::MAX).await?)
    }

    /// What became of the jobs that this one runs after, in the order that they were given; none if it runs after none. Results
    /// and errors come along up to [`MAX_PARENT_BYTES`] in all; what is past its retention has neither.
    ///
    /// # Errors
    /// A retry when the database is not available.
    pub async fn parents(&self) -> Result<Vec<ParentEnd>, JobError> {
        if !self.has_parents {
            return Ok(Vec::new());
        }
        Ok(self.engine.store.parents(self.id, MAX_PARENT_BYTES).await?)
    }

    /// Who is told of the end of a job or a batch, with the secret that signs it.
    pub(crate) async fn callback(&self, subject: Uuid) -> Result<Option<Callback>, JobError> {
        Ok(self.engine.store.callback(&self.tenant, subject).await?)
    }

    /// The transaction, if the handler opened one.
    pub(crate) fn into_transaction(self) -> Option<Box<dyn Transaction>> {
        self.transaction.into_inner()
    }
}
