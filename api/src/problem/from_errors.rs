//! How the errors of the ports look to a client. What names machines, paths or statements goes to the log only.

use offload_common::{files, store};

use super::{FieldError, Problem, ProblemType};

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Unavailable(_) => {
                tracing::warn!(%error, "answering 503");
                Problem::database_unavailable()
            }
            store::Error::NotMigrated(_) => {
                tracing::warn!(%error, "answering 503");
                let detail = "the database schema is missing or older than this server; run `offload migrate`";
                Problem::new(ProblemType::DatabaseNotMigrated, detail).retry_after(5)
            }
            store::Error::Rejected(reason) => {
                tracing::info!(reason, "the database refused a request's data");
                Problem::validation(vec![FieldError::at("", "the database cannot store this body")])
            }
            store::Error::Corrupt(_) => {
                tracing::error!(%error, "answering 500");
                Problem::internal()
            }
        }
    }
}

impl From<files::Error> for Problem {
    fn from(error: files::Error) -> Self {
        match error {
            files::Error::TooLarge(limit) => Problem::too_large(limit),
            files::Error::Interrupted(why) if why.kind() == std::io::ErrorKind::TimedOut => {
                Problem::new(ProblemType::RequestTimeout, why)
            }
            files::Error::Interrupted(_) => Problem::new(ProblemType::MalformedRequest, error),
            files::Error::Missing(id) => {
                tracing::error!(%error, "a file's record is there, and its content is not");
                Problem::new(ProblemType::Gone, format_args!("the content of file {id} is gone"))
            }
            files::Error::Storage(_) => {
                tracing::error!(%error, "answering 503");
                let detail = "the file storage failed; the server's log says how";
                Problem::new(ProblemType::StorageUnavailable, detail).retry_after(5)
            }
            files::Error::Store(error) => error.into(),
        }
    }
}
