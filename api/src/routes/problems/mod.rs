//! `/problems`.

pub(super) mod show;
