//! Checked submissions, kept aside: a few in memory, many in a temporary file that has no name.

use std::io::SeekFrom;

use async_trait::async_trait;
use offload_common::config::JobsConfig;
use offload_common::job::{Lane, NewJob};
use offload_common::store::{Error, Pages, Result};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};

use crate::request::RequestInfo;
use crate::submission::{Names, Submission};

/// Bytes that stay in memory.
const MEMORY: usize = 1 << 20;

/// Jobs of a page.
const PAGE: usize = 2_000;

/// Bytes of a page, about.
const PAGE_BYTES: usize = 8 << 20;

/// What comes in. A record is its length and its JSON.
#[derive(Default)]
pub(crate) struct Spool {
    buffer: Vec<u8>,
    file: Option<File>,
    count: u64,
}

impl Spool {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether they all are in memory.
    pub(crate) fn is_small(&self) -> bool {
        self.file.is_none()
    }

    /// Adds one.
    pub(crate) async fn push(&mut self, submission: &Submission) -> std::io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend([0; 4]);
        serde_json::to_writer(&mut self.buffer, submission)?;
        let length = u32::try_from(self.buffer.len() - start - 4).map_err(std::io::Error::other)?;
        self.buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        if self.buffer.len() >= MEMORY {
            self.spill().await?;
        }
        Ok(())
    }

    async fn spill(&mut self) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::from_std(tempfile::tempfile()?)),
        };
        file.write_all(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }

    /// All of them, to be read.
    pub(crate) async fn into_jobs<'a>(
        mut self,
        request: &'a RequestInfo,
        limits: &'a JobsConfig,
        admit: impl Fn(&Lane) -> bool + Send + 'a,
    ) -> std::io::Result<Jobs<'a>> {
        let source = if self.file.is_some() {
            self.spill().await?;
            None
        } else {
            Some(std::io::Cursor::new(std::mem::take(&mut self.buffer)))
        };
        let source: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match (source, self.file) {
            (None, Some(mut file)) => {
                file.flush().await?;
                file.seek(SeekFrom::Start(0)).await?;
                Box::new(BufReader::with_capacity(MEMORY, file))
            }
            (memory, _) => Box::new(memory.unwrap_or_default()),
        };
        Ok(Jobs { source, left: self.count, request, limits, admit: Box::new(admit), names: Names::new() })
    }
}

/// What goes out.
pub(crate) struct Jobs<'a> {
    source: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    left: u64,
    request: &'a RequestInfo,
    limits: &'a JobsConfig,
    admit: Box<dyn Fn(&Lane) -> bool + Send + 'a>,
    names: Names,
}

impl Jobs<'_> {
    async fn page(&mut self) -> std::io::Result<Vec<NewJob>> {
        let (mut page, mut bytes, mut record) = (Vec::new(), 0, Vec::new());
        while self.left > 0 && page.len() < PAGE && bytes < PAGE_BYTES {
            let length = self.source.read_u32().await? as usize;
            record.resize(length, 0);
            self.source.read_exact(&mut record).await?;
            let submission: Submission = serde_json::from_slice(&record)?;
            let admit = (self.admit)(submission.lane());
            page.push(submission.into_job(self.request, self.limits, admit, &mut self.names));
            self.left -= 1;
            bytes += length;
        }
        Ok(page)
    }
}

#[async_trait]
impl Pages for Jobs<'_> {
    async fn next(&mut self) -> Result<Vec<NewJob>> {
        self.page().await.map_err(|error| Error::Unavailable(format!("the temporary file cannot be read: {error}")))
    }
}
