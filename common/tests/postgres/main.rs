//! What only PostgreSQL does: its connections, locks, partitions and plans. What every store does is in
//! `store_postgres.rs`.

mod connections;
mod handlers;
mod harness;
mod liveness;
mod partitions;
mod replies;
mod schema;
