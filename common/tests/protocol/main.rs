//! The protocol, walked as an adversary: a model of two workers, a broker and a store, in which messages are lost, doubled,
//! late and given back, statements reach the store late or lose their replies, and processes die, freeze, drain and are
//! taken for dead while they live; at any moment, in any order.
//!
//! What decides is the production code: [`offload_common::job::transition::decide`], [`offload_common::job::judge`],
//! [`offload_common::store::Fence`], and the machine of a run's claim, which is the worker's own file. What is modelled
//! is around it: the guards of the statements (`store.rs`), and what a process does with the answers (`apply.rs`).

mod apply;
mod canonical;
mod everything;
mod explore;
mod invariants;
mod mutations;
#[path = "../../../worker/src/run/phase.rs"]
mod phase;
mod schedules;
mod steps;
mod store;
mod world;
