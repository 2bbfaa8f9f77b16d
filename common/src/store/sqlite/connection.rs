//! How connections to the file are made, and that one process at a time makes them.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};

use super::error::Result;
use crate::store::Error;

/// Reading connections that the HTTP side and the maintenance loops share.
const READERS: u32 = 4;

/// How long to wait for a connection that is closing after its user went away; nobody else writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The write-ahead log is cut back to this size, in bytes, after a large import.
const JOURNAL_SIZE_LIMIT: &str = "67108864";

/// Durable when committed: `synchronous=FULL` syncs the log at each commit.
pub(super) fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", JOURNAL_SIZE_LIMIT)
}

/// Reads beside the writer, never waiting for it.
pub(super) fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT)
}

/// The shared reading connections; each is opened when first needed.
pub(super) fn readers(path: &Path) -> SqlitePool {
    SqlitePoolOptions::new().max_connections(READERS).test_before_acquire(false).connect_lazy_with(reading(path))
}

/// Creates the folder of the file, and locks the file for this process: its workers' membership lives in memory, so a
/// second process would take the first one's jobs for lost. The lock goes with the returned handle.
pub(super) fn lock(path: &Path) -> Result<File> {
    let folder = folder_of(path);
    let cannot = |what: &str, error: std::io::Error| {
        Error::Unavailable(format!("cannot {what} {}: {error}; choose a folder with --data", folder.display()))
    };
    std::fs::create_dir_all(&folder).map_err(|error| cannot("create the folder", error))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = file.map_err(|error| cannot("write in the folder", error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
            "another process is using the folder {}; stop it, or choose another folder with --data",
            folder.display()
        ))
        .into()),
        Err(TryLockError::Error(error)) => Err(cannot("lock a file in the folder", error).into()),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions, Connection};

    /// Answering 202 rests on it.
    #[tokio::test]
    async fn what_is_committed_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = writing(&folder.path().join("test.db")).connect().await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        assert_eq!(synchronous, 2, "FULL");
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
        assert_eq!(journal, "wal");
        connection.close().await.unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let error = Error::from(lock(&in_the_way.join("offload.db")).unwrap_err()).to_string();
        assert!(error.contains(&in_the_way.display().to_string()) && error.contains("--data"), "{error}");
    }

    #[test]
    fn a_bare_file_name_is_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("offload.db")), Path::new("."));
    }
}
