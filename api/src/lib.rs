//! The HTTP intake of Offload.
//!
//! A request for a job is checked ([`json_body`], [`submission`]), accepted together with others ([`intake`]), and
//! answered once it is committed. Everything else reads. `routes/` has one file per endpoint, each with its
//! description beside its handler; the router and the OpenAPI document are made from the same list of them.

mod app;
mod batch;
mod body;
mod catalog;
mod compression;
mod conditional;
mod envelope;
mod hub;
mod idempotency;
mod intake;
mod json_body;
mod linger;
mod listing;
mod live;
mod newest;
mod openapi;
mod paging;
mod problem;
mod query;
mod request;
mod routes;
mod schedule_view;
mod server;
mod sse;
mod submission;
#[cfg(test)]
mod testing;
mod timestamp;
mod valve;
mod view;
mod waiting;
mod watch;

pub use openapi::openapi;
pub use server::Api;
