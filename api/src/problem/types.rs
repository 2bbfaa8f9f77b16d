//! The table of everything that can go wrong: one entry per problem type, read by the answers, by `/problems/{name}`
//! and by the OpenAPI document.

use axum::http::StatusCode;

/// A kind of problem. Its URI, `/problems/<name>`, is stable: programs may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemType {
    MalformedRequest,
    MalformedJson,
    InvalidParameter,
    InvalidIdempotencyKey,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    NotFinished,
    NoResult,
    AlreadyFinished,
    NameTaken,
    IdempotencyKeyInUse,
    BatchSealed,
    UniqueKeyHeld,
    Gone,
    PreconditionFailed,
    ContentTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    Validation,
    IdempotencyKeyReused,
    Internal,
    DatabaseUnavailable,
    DatabaseNotMigrated,
    StorageUnavailable,
    ShuttingDown,
}

/// What there is to say about a problem type.
pub(crate) struct Entry {
    /// The last part of its URI.
    pub(crate) name: &'static str,
    /// The status that it is answered with.
    pub(crate) status: StatusCode,
    /// A short summary, the same each time.
    pub(crate) title: &'static str,
    /// What it means and what to do.
    pub(crate) description: &'static str,
}

impl ProblemType {
    /// Every type, by status.
    pub(crate) const ALL: [ProblemType; 26] = [
        ProblemType::MalformedRequest,
        ProblemType::MalformedJson,
        ProblemType::InvalidParameter,
        ProblemType::InvalidIdempotencyKey,
        ProblemType::NotFound,
        ProblemType::MethodNotAllowed,
        ProblemType::RequestTimeout,
        ProblemType::NotFinished,
        ProblemType::NoResult,
        ProblemType::AlreadyFinished,
        ProblemType::NameTaken,
        ProblemType::IdempotencyKeyInUse,
        ProblemType::BatchSealed,
        ProblemType::UniqueKeyHeld,
        ProblemType::Gone,
        ProblemType::PreconditionFailed,
        ProblemType::ContentTooLarge,
        ProblemType::UnsupportedMediaType,
        ProblemType::RangeNotSatisfiable,
        ProblemType::Validation,
        ProblemType::IdempotencyKeyReused,
        ProblemType::Internal,
        ProblemType::DatabaseUnavailable,
        ProblemType::DatabaseNotMigrated,
        ProblemType::StorageUnavailable,
        ProblemType::ShuttingDown,
    ];

    /// The stable URI, relative to the server.
    pub(crate) fn uri(self) -> String {
        format!("/problems/{}", self.entry().name)
    }

    /// The type with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.entry().name == name)
    }

    /// Its line in the table.
    pub(crate) const fn entry(self) -> Entry {
        let (name, status, title, description) = match self {
            Self::MalformedRequest => (
                "malformed-request",
                StatusCode::BAD_REQUEST,
                "The request is malformed",
                "The request cannot be read: a body that breaks off, or a multipart form that is not one.",
            ),
            Self::MalformedJson => (
                "malformed-json",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
                "The body is empty, is not JSON, or is nested too deeply. `line` and `column` say where reading ended.",
            ),
            Self::InvalidParameter => (
                "invalid-parameter",
                StatusCode::BAD_REQUEST,
                "A query parameter is not valid",
                "A query parameter is unknown, given twice, or has a value that is not allowed. `errors` names each.",
            ),
            Self::InvalidIdempotencyKey => (
                "invalid-idempotency-key",
                StatusCode::BAD_REQUEST,
                "The Idempotency-Key is not valid",
                "The header `Idempotency-Key` takes 1 to 255 visible ASCII characters, bare or as a quoted string.",
            ),
            Self::NotFound => (
                "not-found",
                StatusCode::NOT_FOUND,
                "Not found",
                "Nothing is at this address: the path is wrong, or the id is unknown.",
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "The method is not allowed here",
                "The address exists, but does not take this method. The header `Allow` lists those that it takes.",
            ),
            Self::RequestTimeout => (
                "request-timeout",
                StatusCode::REQUEST_TIMEOUT,
                "The request took too long to arrive",
                "The body did not arrive in time. Nothing was changed.",
            ),
            Self::NotFinished => (
                "not-finished",
                StatusCode::CONFLICT,
                "The job is not finished",
                "This needs a job in a final state. Ask again after `Retry-After`, or wait with `GET /v1/jobs/{id}?wait=N`.",
            ),
            Self::NoResult => (
                "no-result",
                StatusCode::CONFLICT,
                "The job has no result",
                "The job failed or was cancelled. `state` says which, and `error` is its last failure.",
            ),
            Self::AlreadyFinished => (
                "already-finished",
                StatusCode::CONFLICT,
                "The job has finished",
                "The job succeeded or failed before it could be cancelled. A final state stays final.",
            ),
            Self::NameTaken => (
                "name-taken",
                StatusCode::CONFLICT,
                "The name is taken",
                "Another schedule has this name. `id` says which: a request that is sent again finds its own.",
            ),
            Self::PreconditionFailed => (
                "precondition-failed",
                StatusCode::PRECONDITION_FAILED,
                "It has changed since",
                "`If-Match` names another version than the one that is there. Read it again, and decide again.",
            ),
            Self::IdempotencyKeyInUse => (
                "idempotency-key-in-use",
                StatusCode::CONFLICT,
                "A request with the Idempotency-Key is being written",
                "The first request with this key has not been answered yet. Send the same again after `Retry-After`.",
            ),
            Self::BatchSealed => (
                "batch-sealed",
                StatusCode::CONFLICT,
                "The batch is sealed",
                "The batch takes no more jobs. Only one that was submitted with `\"sealed\": false` does, until it is sealed.",
            ),
            Self::UniqueKeyHeld => (
                "unique-key-held",
                StatusCode::CONFLICT,
                "A live job has the unique key",
                "Another job of the kind that has not come to its end has this `unique_key`: `job_id` is its id. With `\"on_conflict\": \"refuse\"` any such job is in the way, with `replace` one that runs.",
            ),
            Self::Gone => ("gone", StatusCode::GONE, "Gone", "It was here, and its time of retention has passed."),
            Self::ContentTooLarge => (
                "content-too-large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "The body is longer than the server takes. `limit_bytes` says how long it may be, compressed or not.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The content type is not supported",
                "A JSON body is sent with `Content-Type: application/json`, as it is or compressed: `Content-Encoding: gzip` or `zstd`. A file is not sent compressed.",
            ),
            Self::RangeNotSatisfiable => (
                "range-not-satisfiable",
                StatusCode::RANGE_NOT_SATISFIABLE,
                "The range is not satisfiable",
                "The range lies beyond the end of the file. `Content-Range` says how long the file is.",
            ),
            Self::Validation => (
                "validation",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The request is not valid",
                "The body is JSON, but not what is asked for. `errors` lists everything that is wrong, each with a JSON Pointer into the body.",
            ),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was used for another request",
                "The same key came before with another body or for another address. Use a new key for a new request.",
            ),
            Self::Internal => (
                "internal",
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on the server",
                "A defect of the server. `request_id` finds it in the server's log.",
            ),
            Self::DatabaseUnavailable => (
                "database-unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is not available",
                "The database does not answer now. Send the request again after `Retry-After`; an `Idempotency-Key` makes that safe.",
            ),
            Self::DatabaseNotMigrated => (
                "database-not-migrated",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is not up to date",
                "The schema is missing, or older than this server. The operator runs `offload migrate`.",
            ),
            Self::StorageUnavailable => (
                "storage-unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The file storage is not available",
                "The file storage failed: it is full, missing or not writable. The server's log says which.",
            ),
            Self::ShuttingDown => (
                "shutting-down",
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is shutting down",
                "This process takes no new work. Send the request again: another process will take it.",
            ),
        };
        Entry { name, status, title, description }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_is_listed_once_under_a_name_of_its_own() {
        let names: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.entry().name).collect();
        assert_eq!(names.len(), ProblemType::ALL.len());
        assert_eq!(ProblemType::ShuttingDown as usize + 1, ProblemType::ALL.len(), "a type is missing in ALL");
        for kind in ProblemType::ALL {
            assert_eq!(ProblemType::named(kind.entry().name), Some(kind));
            assert!(kind.entry().status.as_u16() >= 400);
        }
    }
}
