//! What SQLite's result codes mean to callers of the store.

use crate::store::Error;

/// The result of everything inside this module.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// A [`struct@Error`] on its way out of this module, so that `?` translates SQLite's errors here and nowhere else (the
/// other store translates the same types in another way).
#[derive(Debug)]
pub(super) struct Failure(Error);

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self(classify(&error))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self(Error::Corrupt(error.to_string()))
    }
}

/// Primary result codes (<https://www.sqlite.org/rescode.html>); extended ones carry them in their low byte.
mod code {
    pub(super) const ERROR: i32 = 1;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const TOO_BIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const RANGE: i32 = 25;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

fn classify(error: &sqlx::Error) -> Error {
    use sqlx::Error as Sqlx;
    match error {
        Sqlx::Database(database) => {
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0);
            by_code(code & 0xff, database.message())
        }
        Sqlx::RowNotFound
        | Sqlx::TypeNotFound { .. }
        | Sqlx::ColumnIndexOutOfBounds { .. }
        | Sqlx::ColumnNotFound(_)
        | Sqlx::ColumnDecode { .. }
        | Sqlx::Decode(_) => Error::Corrupt(error.to_string()),
        Sqlx::Encode(_) | Sqlx::InvalidArgument(_) | Sqlx::Protocol(_) => Error::Rejected(error.to_string()),
        _ => Error::Unavailable(error.to_string()),
    }
}

fn by_code(code: i32, message: &str) -> Error {
    match code {
        code::ERROR if message.starts_with("no such table: offload_") => Error::NotMigrated(message.to_owned()),
        code::ERROR | code::TOO_BIG | code::CONSTRAINT | code::MISMATCH | code::RANGE => {
            Error::Rejected(message.to_owned())
        }
        code::CORRUPT | code::NOT_A_DATABASE => Error::Corrupt(message.to_owned()),
        // Busy, locked, a full disk, a failing one, no memory: another try may find it otherwise.
        _ => Error::Unavailable(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection, SqliteConnection};

    /// What SQLite itself says to a statement, so that the codes above are the real ones.
    async fn answer_to(sql: &'static str) -> Error {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT NOT NULL UNIQUE) STRICT; INSERT INTO t VALUES (1, 'x')",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let error = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap_err();
        Failure::from(error).into()
    }

    #[tokio::test]
    async fn a_missing_table_of_ours_asks_for_a_migration_and_one_of_the_application_does_not() {
        assert!(matches!(answer_to("SELECT 1 FROM offload_jobs").await, Error::NotMigrated(_)));
        assert!(matches!(answer_to("SELECT 1 FROM orders").await, Error::Rejected(_)));
    }

    #[tokio::test]
    async fn what_would_be_refused_again_is_rejected() {
        for sql in [
            "INSERT INTO t VALUES (1, 'y')",
            "INSERT INTO t VALUES (2, 'x')",
            "INSERT INTO t VALUES (2, NULL)",
            "INSERT INTO t VALUES ('two', 'y')",
            "SELECT FROM",
        ] {
            assert!(matches!(answer_to(sql).await, Error::Rejected(_)), "{sql}");
        }
    }

    #[test]
    fn a_busy_or_failing_file_may_answer_the_next_time() {
        for (code, what) in [(5, "busy"), (6, "locked"), (10, "I/O"), (13, "full"), (14, "cannot open")] {
            assert!(matches!(by_code(code, what), Error::Unavailable(_)), "{what}");
        }
        for (code, what) in [(11, "malformed"), (26, "not a database")] {
            assert!(matches!(by_code(code, what), Error::Corrupt(_)), "{what}");
        }
    }
}
