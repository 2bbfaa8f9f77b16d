//! Files: uploads, and what handlers produce. Content lives in a [`BlobStore`], the record of it in the store.

pub mod local;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::job::FileId;
use crate::store::{self, FileRecord, Store};

/// Content on its way in or out.
pub type ByteStream = BoxStream<'static, std::io::Result<Bytes>>;

/// Why a file was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than the limit, in bytes.
    #[error("the file is longer than the limit of {0} bytes")]
    TooLarge(u64),
    /// The sender broke off, or sent something unreadable.
    #[error("the upload broke off: {0}")]
    Interrupted(std::io::Error),
    /// Its content is not there.
    #[error("the content of file {0} is missing from the file storage")]
    Missing(FileId),
    /// The storage failed (a full disk, a missing folder, a permission).
    #[error("the file storage failed: {0}")]
    Storage(String),
    /// The record could not be written or read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What storing found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The length.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// Where content lives.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores a stream of at most `limit` bytes; durable and visible when this returns, and nothing is left behind when
    /// it fails.
    async fn put(&self, id: FileId, content: ByteStream, limit: u64) -> Result<Stored, Error>;

    /// Streams the content, or a range of its bytes.
    async fn get(&self, id: FileId, range: Option<Range<u64>>) -> Result<ByteStream, Error>;

    /// Removes the content; a missing one is no error.
    async fn delete(&self, id: FileId) -> Result<(), Error>;
}

/// Files with their records.
#[derive(Clone)]
pub struct Files {
    blobs: Arc<dyn BlobStore>,
    store: Arc<dyn Store>,
}

impl Files {
    /// Content in `blobs`, records in `store`.
    #[must_use]
    pub fn new(blobs: Arc<dyn BlobStore>, store: Arc<dyn Store>) -> Self {
        Self { blobs, store }
    }

    /// Stores a file of at most `limit` bytes, content first.
    ///
    /// # Errors
    /// As [`BlobStore::put`]; and where the record cannot be written, in which case the content is removed again.
    pub async fn save(
        &self,
        tenant: &str,
        content_type: &str,
        content: ByteStream,
        limit: u64,
    ) -> Result<FileRecord, Error> {
        let id = FileId::new();
        let stored = self.blobs.put(id, content, limit).await?;
        let record = FileRecord {
            id,
            tenant: tenant.to_owned(),
            content_type: content_type.to_owned(),
            bytes: stored.bytes,
            sha256: stored.sha256,
            created_at: crate::clock::now(),
        };
        if let Err(error) = self.store.add_file(&record).await {
            self.blobs.delete(id).await?;
            return Err(error.into());
        }
        Ok(record)
    }

    /// A file's record; `None` if there is no such file.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn record(&self, tenant: &str, id: FileId) -> Result<Option<FileRecord>, Error> {
        Ok(self.store.file(tenant, id).await?)
    }

    /// Streams a file's content, or a range of its bytes.
    ///
    /// # Errors
    /// As [`BlobStore::get`].
    pub async fn content(&self, id: FileId, range: Option<Range<u64>>) -> Result<ByteStream, Error> {
        self.blobs.get(id, range).await
    }

    /// Removes the content of files whose records are gone.
    ///
    /// # Errors
    /// As [`BlobStore::delete`].
    pub async fn forget(&self, ids: &[FileId]) -> Result<(), Error> {
        for id in ids {
            self.blobs.delete(*id).await?;
        }
        Ok(())
    }
}
