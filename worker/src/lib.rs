//! The workers of Offload: consuming, running and upkeep, and the job kinds that ship.

mod context;
pub mod kind;
pub mod kinds;
