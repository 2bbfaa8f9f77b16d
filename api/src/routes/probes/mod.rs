//! `/livez` and `/readyz`.

pub(super) mod live;
pub(super) mod ready;
