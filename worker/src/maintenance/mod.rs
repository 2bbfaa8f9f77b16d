//! Upkeep: loops that any number of processes may run at once. One file each; [`driver`] owns their timing.

mod driver;
mod firer;
mod promoter;
mod pruner;
mod reaper;
mod releaser;
mod stealer;

pub use driver::LoopStatus;
pub(crate) use driver::{Loops, Reconcile};
pub(crate) use firer::Firer;
pub(crate) use promoter::{LONGEST_NAP, Promoter};
pub(crate) use pruner::Pruner;
pub(crate) use reaper::Reaper;
pub(crate) use releaser::Releaser;
pub(crate) use stealer::Stealer;
