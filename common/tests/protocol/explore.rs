//! Walks through the states: all of them within a bound, depth first, or some of them far out, by a seed.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::canonical::canonical;
use crate::invariants::{Broken, at_rest, check};
use crate::steps::Step;
use crate::world::World;

/// More steps than any fair schedule needs.
const LONGEST: usize = 400;

/// How the world came to break what.
pub(crate) struct Found {
    pub(crate) broken: Broken,
    script: Vec<Step>,
    world: Box<World>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} does not hold after", self.broken)?;
        self.script.iter().try_for_each(|step| writeln!(f, "  {step:?}"))?;
        write!(f, "{:?}", self.world)
    }
}

/// How much was looked at.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) states: usize,
    pub(crate) steps: usize,
}

/// What tells a state from others.
fn print(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    canonical(world).hash(&mut hasher);
    hasher.finish()
}

/// Takes the step, and looks whether all still holds.
pub(crate) fn take(world: &mut World, step: Step) -> Result<(), Broken> {
    let before = world.store.clone();
    world.apply(step)?;
    check(&before, world)
}

/// Follows the fair schedule until everything rests, or until it comes to a state that is known to.
fn settle(world: &World, restful: &mut HashSet<u64>, script: &[Step]) -> Result<(), Found> {
    let (mut world, mut script, mut passed) = (world.clone(), script.to_vec(), Vec::new());
    while restful.insert(print(&world)) {
        passed.push(());
        let next = world.fair();
        let came = match next {
            Some(step) => take(&mut world, step),
            None => at_rest(&world),
        };
        script.extend(next);
        let came = if passed.len() > LONGEST { Err(Broken::EverythingEnds) } else { came };
        came.map_err(|broken| Found { broken, script: script.clone(), world: Box::new(world.clone()) })?;
        if next.is_none() {
            break;
        }
    }
    Ok(())
}

/// Every state that can be reached.
pub(crate) fn exhaust(start: World) -> Result<Tally, Found> {
    let mut tally = Tally::default();
    let mut known = HashSet::from([print(&start)]);
    let mut restful = HashSet::new();
    settle(&start, &mut restful, &[])?;
    let mut script: Vec<Step> = Vec::new();
    let mut open = vec![(start.enabled(), start)];
    while let Some((steps, world)) = open.last_mut() {
        let Some(step) = steps.pop() else {
            open.pop();
            script.pop();
            continue;
        };
        let mut next = world.clone();
        let came = take(&mut next, step);
        tally.steps += 1;
        script.push(step);
        came.map_err(|broken| Found { broken, script: script.clone(), world: Box::new(next.clone()) })?;
        if known.insert(print(&next)) {
            settle(&next, &mut restful, &script)?;
            open.push((next.enabled(), next));
        } else {
            script.pop();
        }
    }
    tally.states = known.len();
    Ok(tally)
}

/// One way through, by chance, and to its rest.
pub(crate) fn wander(mut world: World, seed: u64, steps: usize) -> Result<usize, Found> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut script = Vec::new();
    for _ in 0..steps {
        let enabled = world.enabled();
        // Faults outnumber what goes well: as often the one as the other, where there is a choice.
        let wanted = chance.random_bool(0.3);
        let (faults, others): (Vec<_>, Vec<_>) = enabled.into_iter().partition(|step| world.is_fault(step));
        let from = if wanted && !faults.is_empty() || others.is_empty() { faults } else { others };
        if from.is_empty() {
            break;
        }
        let step = from[chance.random_range(0..from.len())];
        script.push(step);
        take(&mut world, step).map_err(|broken| Found {
            broken,
            script: script.clone(),
            world: Box::new(world.clone()),
        })?;
    }
    settle(&world, &mut HashSet::new(), &script)?;
    Ok(script.len())
}
