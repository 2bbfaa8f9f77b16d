//! Files in a folder, which may be one that many machines share (NFS): every step is an ordinary file operation, and
//! what is visible under its name is complete.
//!
//! Content is written under `incoming/`, synced, and moved to `<two hex digits>/<id>`, the digits being the first two of
//! the random end of the id, so that no folder grows large.

use std::fs::File;
use std::io::{self, ErrorKind, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

use super::{BlobStore, ByteStream, Error, Stored};
use crate::clock;
use crate::job::FileId;

/// Where content is written before it is complete.
const INCOMING: &str = "incoming";

/// What has not been written to for this long was left by a process that crashed, here or on another machine.
const ABANDONED: TimeDelta = TimeDelta::days(1);

/// Content is read in pieces of this many bytes.
const PIECE: usize = 64 * 1024;

/// Stores files in a folder.
pub struct LocalFiles {
    folder: PathBuf,
}

impl LocalFiles {
    /// Creates the folder if it is not there, and removes what uploads left in it that were cut off by a crash more
    /// than a day ago.
    ///
    /// # Errors
    /// [`Error::Storage`] where the folder cannot be created or written.
    pub async fn open(folder: PathBuf) -> Result<Self, Error> {
        blocking(move || {
            let incoming = folder.join(INCOMING);
            std::fs::create_dir_all(&incoming).map_err(|error| failed("create", &incoming, &error))?;
            remove_abandoned(&incoming).map_err(|error| failed("clean up", &incoming, &error))?;
            Ok(Self { folder })
        })
        .await
    }

    fn path(&self, id: FileId) -> PathBuf {
        let bytes = id.0.as_bytes();
        self.folder.join(format!("{:02x}", bytes[10])).join(id.to_string())
    }
}

#[async_trait]
impl BlobStore for LocalFiles {
    async fn put(&self, id: FileId, content: ByteStream, limit: u64) -> Result<Stored, Error> {
        let path = self.folder.join(INCOMING).join(id.to_string());
        let (unfinished, file) = blocking(move || Unfinished::create(path)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let stored = write(&mut file, &unfinished.path, content, limit).await?;
        let (file, target) = (file.into_std().await, self.path(id));
        let finished = blocking(move || unfinished.publish(&file, target)).await?;
        finished.keep();
        Ok(stored)
    }

    async fn get(&self, id: FileId, range: Option<Range<u64>>) -> Result<ByteStream, Error> {
        let path = self.path(id);
        let mut file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(Error::Missing(id)),
            Err(error) => return Err(failed("open", &path, &error)),
        };
        let Some(range) = range else { return Ok(ReaderStream::with_capacity(file, PIECE).boxed()) };
        file.seek(SeekFrom::Start(range.start)).await.map_err(|error| failed("read", &path, &error))?;
        let part = file.take(range.end.saturating_sub(range.start));
        Ok(ReaderStream::with_capacity(part, PIECE).boxed())
    }

    async fn delete(&self, id: FileId) -> Result<(), Error> {
        let path = self.path(id);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &error)),
            _ => Ok(()),
        }
    }
}

async fn write(file: &mut tokio::fs::File, path: &Path, mut content: ByteStream, limit: u64) -> Result<Stored, Error> {
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(Error::Interrupted)?;
        bytes += piece.len() as u64;
        if bytes > limit {
            return Err(Error::TooLarge(limit));
        }
        hash.update(&piece);
        file.write_all(&piece).await.map_err(|error| failed("write", path, &error))?;
    }
    file.flush().await.map_err(|error| failed("write", path, &error))?;
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Stored { bytes, sha256 })
}

/// A file that is removed again unless it is kept. It travels as the result of the blocking steps, so that where their
/// caller goes away in the middle, the result that nobody takes removes what they did.
struct Unfinished {
    path: PathBuf,
    keep: bool,
}

impl Unfinished {
    fn create(path: PathBuf) -> Result<(Self, File), Error> {
        let file = File::options().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| failed("write", &path, &error))?;
        Ok((Self { path, keep: false }, file))
    }

    /// Makes the content durable, and visible under its name.
    fn publish(mut self, file: &File, target: PathBuf) -> Result<Self, Error> {
        file.sync_all().map_err(|error| failed("write", &self.path, &error))?;
        let folder = parent(&target);
        match std::fs::create_dir(folder) {
            Ok(()) => sync_folder(parent(folder))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create", folder, &error)),
        }
        std::fs::rename(&self.path, &target).map_err(|error| failed("write", &target, &error))?;
        self.path = target;
        sync_folder(parent(&self.path))?;
        Ok(self)
    }

    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed now is removed by a later start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed("write", folder, &error))
}

fn remove_abandoned(incoming: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(incoming)? {
        let entry = entry?;
        // Another process may be cleaning up, or finishing an upload, at the same moment.
        let Ok(written) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        if clock::now() - DateTime::<Utc>::from(written) > ABANDONED {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room there",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; let the user that Offload runs as write there, or choose another folder"
        }
        ErrorKind::NotFound => "; the folder is gone: is it mounted?",
        _ => "",
    };
    Error::Storage(format!("cannot {what} {}: {error}{advice}", path.display()))
}

/// Runs file operations off the async threads. They run to their end, also where the caller goes away.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Storage(format!("a file operation did not end: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;
    use bytes::Bytes;
    use futures_util::{TryStreamExt, stream};
    use std::time::{Duration, SystemTime};

    fn content(pieces: &[&'static str]) -> ByteStream {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        stream::iter(pieces).boxed()
    }

    async fn read(files: &LocalFiles, id: FileId, range: Option<Range<u64>>) -> String {
        let pieces: Vec<Bytes> = files.get(id, range).await.unwrap().try_collect().await.unwrap();
        String::from_utf8(pieces.concat()).unwrap()
    }

    /// Every file below the folder.
    fn all_files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { all_files(&path) } else { vec![path] }).collect()
    }

    #[tokio::test]
    async fn content_reads_back_whole_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::open(folder.path().join("files")).await.unwrap();
        let id = FileId::new();
        let stored = files.put(id, content(&["hello", " ", "world"]), 11).await.unwrap();
        assert_eq!(stored.bytes, 11);
        assert_eq!(stored.sha256, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        assert_eq!(read(&files, id, None).await, "hello world");
        for (range, part) in [(0..5, "hello"), (6..11, "world"), (10..10, ""), (4..100, "o world"), (50..60, "")] {
            assert_eq!(read(&files, id, Some(range.clone())).await, part, "{range:?}");
        }
        let name = id.to_string();
        assert_eq!(all_files(folder.path()), [folder.path().join("files").join(&name[24..26]).join(&name)]);
    }

    #[tokio::test]
    async fn large_content_comes_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::open(folder.path().to_owned()).await.unwrap();
        let id = FileId::new();
        let megabyte = Bytes::from(vec![7; 1 << 20]);
        let content = stream::repeat(megabyte.clone()).take(5).map(Ok).boxed();
        files.put(id, content, u64::MAX).await.unwrap();
        let pieces: Vec<Bytes> = files.get(id, None).await.unwrap().try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE));
        assert_eq!(pieces.concat(), megabyte.repeat(5));
    }

    #[tokio::test]
    async fn a_file_is_gone_once_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::open(folder.path().to_owned()).await.unwrap();
        let id = FileId::new();
        files.put(id, content(&[]), 0).await.unwrap();
        assert_eq!(read(&files, id, None).await, "");
        files.delete(id).await.unwrap();
        files.delete(id).await.expect("a missing one is no error");
        assert!(matches!(files.get(id, None).await, Err(Error::Missing(missing)) if missing == id));
    }

    #[tokio::test]
    async fn what_is_not_stored_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::open(folder.path().to_owned()).await.unwrap();
        let too_long = files.put(FileId::new(), content(&["12345", "6"]), 5).await;
        assert!(matches!(too_long, Err(Error::TooLarge(5))), "{too_long:?}");
        let broken = content(&["12345"]).chain(stream::iter([Err(io::Error::other("the client went away"))]));
        let cut_off = files.put(FileId::new(), broken.boxed(), 100).await;
        assert!(
            matches!(&cut_off, Err(Error::Interrupted(why)) if why.to_string() == "the client went away"),
            "{cut_off:?}"
        );
        assert!(all_files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_future_that_is_dropped_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::open(folder.path().to_owned()).await.unwrap();
        let endless = content(&["some"]).chain(stream::pending()).boxed();
        let mut put = Box::pin(files.put(FileId::new(), endless, 100));
        // Until the file is there; the stream never ends, so the upload is in the middle.
        while all_files(folder.path()).is_empty() {
            assert!(futures_util::poll!(&mut put).is_pending());
            tokio::task::yield_now().await;
        }
        drop(put);
        // A step that is on its way through the thread pool undoes itself when it comes out.
        eventually("nothing is left", async || all_files(folder.path()).is_empty().then_some(())).await;
    }

    #[test]
    fn a_step_whose_caller_went_away_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let (unfinished, file) = Unfinished::create(folder.path().join("incoming")).unwrap();
        let published = unfinished.publish(&file, folder.path().join("ab").join("id")).unwrap();
        assert_eq!(all_files(folder.path()), [folder.path().join("ab").join("id")]);
        drop(published);
        assert!(all_files(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn opening_removes_what_a_crash_left_and_no_upload_that_is_going_on() {
        let folder = tempfile::tempdir().unwrap();
        let incoming = folder.path().join(INCOMING);
        std::fs::create_dir(&incoming).unwrap();
        let (old, recent) = (incoming.join("old"), incoming.join("recent"));
        for path in [&old, &recent] {
            std::fs::write(path, "half").unwrap();
        }
        let two_days_ago = SystemTime::from(clock::now()) - Duration::from_secs(2 * 86_400);
        File::options().write(true).open(&old).unwrap().set_modified(two_days_ago).unwrap();
        LocalFiles::open(folder.path().to_owned()).await.unwrap();
        assert_eq!(all_files(folder.path()), [recent]);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let Err(Error::Storage(why)) = LocalFiles::open(in_the_way.clone()).await else { panic!("it is a file") };
        assert!(why.contains(&in_the_way.display().to_string()), "{why}");

        let files = LocalFiles::open(folder.path().join("files")).await.unwrap();
        std::fs::remove_dir_all(folder.path().join("files")).unwrap();
        let Err(Error::Storage(why)) = files.put(FileId::new(), content(&["x"]), 1).await else { panic!("it is gone") };
        assert!(why.contains("is it mounted?"), "{why}");
    }
}
