//! States that differ only in what nothing depends on any more are one: which of two workers it is, what ids and nonces
//! are called, and what is left in a row that nobody will look at.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use offload_common::job::{Nonce, State, WorkerId};
use uuid::Uuid;

use crate::phase::Phase;
use crate::store::REAPER;
use crate::world::{Process, Run, Stage, What, World};

/// The state that stands for all that are like this one.
pub(crate) fn canonical(world: &World) -> World {
    let mut world = world.clone();
    if look(&world.processes[1]) < look(&world.processes[0]) {
        world.processes.swap(0, 1);
        world.calls.iter_mut().for_each(|call| call.caller = call.caller.map(|process| 1 - process));
    }
    for row in world.store.rows.iter_mut().filter(|row| row.at.state != State::Running) {
        row.worker = None;
    }
    let void = |row: usize, epoch| world.store.rows[row].epoch != epoch;
    for message in world.broker.iter_mut().chain(world.processes.iter_mut().flat_map(|process| &mut process.inbox)) {
        message.redelivered &= !void(message.row, message.epoch);
    }
    rename(&mut world);
    world.normalise();
    world
}

/// What a process looks like, without the ids in it.
fn look(process: &Process) -> u64 {
    let Process { alive, session, standing, draining, inbox, runs } = process;
    let mut hasher = DefaultHasher::new();
    (alive, session.is_some(), standing, draining, inbox).hash(&mut hasher);
    for Run { epoch, stage, stop, receipt, entered, phase, .. } in runs {
        (epoch, stage, stop, receipt, entered, std::mem::discriminant(phase)).hash(&mut hasher);
    }
    hasher.finish()
}

/// Gives out ids and nonces anew, in the order in which they occur.
fn rename(world: &mut World) {
    let mut workers: HashMap<WorkerId, WorkerId> = HashMap::new();
    let mut worker = |id: &mut WorkerId| {
        let next = WorkerId(Uuid::from_u128(workers.len() as u128 + 1));
        *id = *workers.entry(*id).or_insert(next);
    };
    let mut nonces: HashMap<Nonce, Nonce> = HashMap::new();
    let mut nonce = |nonce: &mut Nonce| {
        let next = Nonce(i64::try_from(nonces.len()).expect("few") + 1);
        *nonce = *nonces.entry(*nonce).or_insert(next);
    };
    for process in &mut world.processes {
        process.session.iter_mut().for_each(&mut worker);
        for run in &mut process.runs {
            worker(&mut run.lazy.worker);
            nonce(&mut run.lazy.nonce);
            if let Phase::Claimed(lease) = &mut run.phase {
                worker(&mut lease.worker);
                nonce(&mut lease.nonce);
            }
            if run.stage == Stage::Ending {
                // Its call says it.
                run.seen = world.store.rows[0].at;
            }
        }
    }
    for call in &mut world.calls {
        match &mut call.what {
            What::Claim(lease, _) | What::Steal(lease, _) | What::Finish { lease, .. } => {
                worker(&mut lease.worker);
                nonce(&mut lease.nonce);
            }
        }
    }
    for row in &mut world.store.rows {
        row.worker.iter_mut().for_each(&mut worker);
        // One that no run has left is nobody's.
        row.nonce = row.nonce.map(|nonce| nonces.get(&nonce).copied().unwrap_or(REAPER));
    }
    world.store.members.iter_mut().for_each(worker);
    world.store.members.sort_unstable();
}
