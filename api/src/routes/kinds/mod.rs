//! `/v1/kinds`.

pub(super) mod list;
