//! `/v1/queues`.

pub(super) mod list;
