//! `/v1/workers`.

pub(super) mod list;
