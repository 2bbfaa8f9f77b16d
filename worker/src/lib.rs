//! The workers of Offload: consuming, running and upkeep, and the job kinds that ship.
//!
//! A message comes in through `delivery`, is validated and started by `starter`, run by `executor`, brought to its
//! end by `conclusion`. Beside them, `heartbeat` says that the worker is there, and `maintenance` repairs what was
//! lost.

mod claiming;
mod compute;
mod conclusion;
mod context;
mod delivery;
mod engine;
mod executor;
mod finisher;
mod heartbeat;
pub mod kind;
pub mod kinds;
mod lazy_claims;
mod maintenance;
mod outcome;
pub mod probes;
mod pulse;
mod reporter;
mod run;
mod starter;
mod strays;
mod text;
mod vitals;
mod watchdog;
mod worker;

pub use worker::{Exit, StopSignals, Worker, WorkerParts};
