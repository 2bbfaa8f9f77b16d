//! The file that a payload names.

use offload_common::job::FileId;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where the content comes from.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// The id of a stored file, as `POST /v1/files` answered it.
    #[schemars(with = "String", regex(pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"))]
    #[schemars(example = "0199f6c2-7b5e-7cc3-98c4-dc0c0c07398f".to_owned())]
    pub(super) file: FileId,
}
