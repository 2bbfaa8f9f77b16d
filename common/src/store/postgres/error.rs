//! What PostgreSQL's errors mean to Offload.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;

use crate::store::Error;

/// Whose statement it was that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Offload's own: what does not exist there has not been migrated.
    Offload,
    /// A handler's: what does not exist there is the handler's mistake.
    Handler,
}

impl Origin {
    /// Translates an error of a statement of this origin.
    pub(super) fn error(self, error: sqlx::Error) -> Error {
        match error {
            sqlx::Error::Database(error) => self.database_error(error.as_ref()),
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound => Error::Corrupt(error.to_string()),
            // Offload's own types are looked up by name when a statement is first prepared.
            sqlx::Error::TypeNotFound { .. } => Error::NotMigrated(error.to_string()),
            sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => Error::Rejected(error.to_string()),
            other => Error::Unavailable(other.to_string()),
        }
    }

    fn database_error(self, error: &dyn DatabaseError) -> Error {
        let code = error.code().unwrap_or_default();
        match (self, verdict(&code)) {
            (_, Verdict::Away) => Error::Unavailable(error.message().to_owned()),
            (Origin::Offload, Verdict::Missing) => Error::NotMigrated(error.message().to_owned()),
            (Origin::Handler, Verdict::Missing) | (_, Verdict::Refused) => Error::Rejected(describe(error)),
        }
    }
}

/// What an SQLSTATE says, read from its class: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same statement may succeed later.
    Away,
    /// Something that it names is not there.
    Missing,
    /// The data is the reason, and will be again.
    Refused,
}

fn verdict(code: &str) -> Verdict {
    match code {
        // Granting the privilege heals it, so processes wait for that as they wait for the server.
        "42501" => Verdict::Away,
        _ => match code.get(..2).unwrap_or_default() {
            "3F" | "42" => Verdict::Missing,
            // 22 data exception, 23 integrity constraint, 44 check option, 54 a limit of the program, P0 raised by a
            // trigger of the application's.
            "22" | "23" | "44" | "54" | "P0" => Verdict::Refused,
            // 08 connection, 28 authorisation, 3D no such database, 40 serialisation and deadlock, 53 resources,
            // 55 locks, 57 operator intervention and statement time-outs, 58 system, XX internal.
            _ => Verdict::Away,
        },
    }
}

/// The message with what helps to find the cell: the detail, and the context (`COPY t, line 3, column a: "x"`).
fn describe(error: &dyn DatabaseError) -> String {
    let mut text = error.message().to_owned();
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        for more in [error.detail(), error.r#where()].into_iter().flatten() {
            text.push_str("; ");
            text.push_str(more.lines().next().unwrap_or_default());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_by_what_can_be_done_about_them() {
        let table = [
            ("08006", Verdict::Away),    // connection_failure
            ("28P01", Verdict::Away),    // invalid_password
            ("3D000", Verdict::Away),    // invalid_catalog_name: no such database
            ("40001", Verdict::Away),    // serialization_failure
            ("40P01", Verdict::Away),    // deadlock_detected
            ("42501", Verdict::Away),    // insufficient_privilege
            ("53300", Verdict::Away),    // too_many_connections
            ("55P03", Verdict::Away),    // lock_not_available
            ("57014", Verdict::Away),    // query_canceled: statement_timeout
            ("57P01", Verdict::Away),    // admin_shutdown
            ("3F000", Verdict::Missing), // invalid_schema_name
            ("42P01", Verdict::Missing), // undefined_table
            ("42703", Verdict::Missing), // undefined_column
            ("22P02", Verdict::Refused), // invalid_text_representation
            ("22021", Verdict::Refused), // character_not_in_repertoire: a NUL byte
            ("23505", Verdict::Refused), // unique_violation
            ("54001", Verdict::Refused), // statement_too_complex: JSON nested too deep
            ("P0001", Verdict::Refused), // raise_exception
        ];
        for (code, expected) in table {
            assert_eq!(verdict(code), expected, "{code}");
        }
    }

    #[test]
    fn a_server_that_is_away_is_unavailable() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(matches!(Origin::Offload.error(refused.into()), Error::Unavailable(_)));
        assert!(matches!(Origin::Offload.error(sqlx::Error::WorkerCrashed), Error::Unavailable(_)));
        let decode = sqlx::Error::Decode("not a date".into());
        assert!(matches!(Origin::Offload.error(decode), Error::Corrupt(_)));
    }
}
