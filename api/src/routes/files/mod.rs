//! `/v1/files`.

pub(super) mod download;
mod multipart;
mod range;
pub(super) mod upload;

use offload_common::job::FileId;

/// Where a file is.
fn file_path(file: FileId) -> String {
    format!("/v1/files/{file}")
}
