//! What a job kind is to its author: a typed payload in, a typed result out, and a [`Context`] to work with.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use offload_common::RawJson;
use offload_common::files;
use offload_common::job::transition::{Failure, Retry};
use offload_common::kind::KindSpec;
use offload_common::store;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::context::Context;

/// A kind of job.
#[async_trait]
pub trait JobKind: Send + Sync + 'static {
    /// What it is given; intake has validated it against its schema.
    type Payload: DeserializeOwned + JsonSchema + Send;
    /// What it comes to.
    type Output: Serialize + JsonSchema + Send;

    /// Its name, its description, its defaults.
    fn spec(&self) -> KindSpec;

    /// Runs one attempt. Dropped at an await when it times out, is cancelled or its lease is lost.
    async fn run(&self, job: &Context, payload: Self::Payload) -> Result<Self::Output, JobError>;
}

/// How an attempt failed, and what is to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobError {
    /// The attempt failed; another may follow or not.
    Failed(Failure),
    /// Not now: call again after this, without spending an attempt.
    Snooze(Duration),
    /// The lease is gone: whatever this attempt did, another worker decides now.
    LeaseLost,
}

impl JobError {
    /// Trying again may help: a service was away, a lock was held.
    pub fn retry(code: &str, message: impl ToString) -> Self {
        Self::failed(code, message, Retry::Backoff)
    }

    /// Trying again may help, but not before `delay` has passed.
    pub fn retry_after(code: &str, message: impl ToString, delay: Duration) -> Self {
        Self::failed(code, message, Retry::After(delay))
    }

    /// Trying again cannot help: the payload asks for something impossible.
    pub fn fail(code: &str, message: impl ToString) -> Self {
        Self::failed(code, message, Retry::Never)
    }

    /// Call again after `delay`, without spending an attempt.
    #[must_use]
    pub const fn snooze(delay: Duration) -> Self {
        JobError::Snooze(delay)
    }

    fn failed(code: &str, message: impl ToString, retry: Retry) -> Self {
        JobError::Failed(Failure { code: code.to_owned(), message: message.to_string(), retry })
    }
}

impl From<store::Error> for JobError {
    /// What the database refuses is final; that it cannot be reached passes.
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) | store::Error::NotMigrated(_) => Self::retry("database_unavailable", error),
            store::Error::Rejected(_) | store::Error::Corrupt(_) => Self::fail("database_rejected", error),
        }
    }
}

impl From<files::Error> for JobError {
    /// A file that is not there, or too long, stays so; that the storage failed passes.
    fn from(error: files::Error) -> Self {
        match error {
            files::Error::Missing(_) => Self::fail("file_not_found", error),
            files::Error::TooLarge(_) => Self::fail("file_too_large", error),
            files::Error::Interrupted(_) | files::Error::Storage(_) => Self::retry("storage_unavailable", error),
            files::Error::Store(error) => error.into(),
        }
    }
}

/// A [`JobKind`] whose types have been erased, as the executor holds it.
#[async_trait]
pub trait AnyKind: Send + Sync + 'static {
    /// As [`JobKind::spec`], asked once.
    fn spec(&self) -> &KindSpec;

    /// Decodes the payload, runs, encodes the result.
    async fn run(&self, job: &Context, payload: &RawJson) -> Result<RawJson, JobError>;
}

struct Erased<K> {
    kind: K,
    spec: KindSpec,
}

/// Erases the types of a kind.
pub fn erase<K: JobKind>(kind: K) -> Arc<dyn AnyKind> {
    let spec = kind.spec();
    Arc::new(Erased { kind, spec })
}

#[async_trait]
impl<K: JobKind> AnyKind for Erased<K> {
    fn spec(&self) -> &KindSpec {
        &self.spec
    }

    async fn run(&self, job: &Context, payload: &RawJson) -> Result<RawJson, JobError> {
        let payload = serde_json::from_str(payload.get()).map_err(|error| {
            JobError::fail("invalid_payload", format!("the payload does not fit kind `{}`: {error}", self.spec.name))
        })?;
        let output = self.kind.run(job, payload).await?;
        serde_json::value::to_raw_value(&output)
            .map_err(|error| JobError::fail("invalid_result", format!("the result is not JSON: {error}")))
    }
}
