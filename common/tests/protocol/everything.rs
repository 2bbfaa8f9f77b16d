//! Every state within a bound, and some far beyond it.

use crate::explore::{exhaust, wander};
use crate::store::Kind;
use crate::world::World;

/// Writes to the ledger through its transaction, like an import into a table.
pub(crate) const IMPORT: Kind = Kind { transactional: true, repeatable: true };

/// Has no effect in the database, and bears being started twice.
pub(crate) const PLAIN: Kind = Kind { transactional: false, repeatable: true };

/// The same, but is claimed before each start, like a call to a third party.
pub(crate) const CALL: Kind = Kind { transactional: false, repeatable: false };

/// Looks at all that can become of this; at least at so many states, or the model has lost some of its steps.
fn nothing_breaks(world: World, least: usize) {
    let tally = exhaust(world).unwrap_or_else(|found| panic!("{found:?}"));
    assert!(tally.states >= least, "there were more states once than {tally:?}");
}

#[test]
fn two_faults_at_any_moment_of_an_import() {
    nothing_breaks(World::new(&[IMPORT], 2, true, 2), 50_000);
}

#[test]
fn two_faults_at_any_moment_of_a_plain_job() {
    nothing_breaks(World::new(&[PLAIN], 2, true, 2), 12_000);
}

#[test]
fn two_faults_at_any_moment_of_a_job_that_is_claimed_first() {
    nothing_breaks(World::new(&[CALL], 2, true, 2), 12_000);
}

#[test]
fn two_faults_at_any_moment_of_an_only_attempt() {
    nothing_breaks(World::new(&[IMPORT], 1, true, 2), 12_000);
}

#[test]
fn a_fault_at_any_moment_of_a_job_that_waits_to_be_promoted() {
    nothing_breaks(World::new(&[IMPORT], 2, false, 1), 500);
}

#[test]
fn a_fault_at_any_moment_of_two_jobs() {
    nothing_breaks(World::new(&[IMPORT, PLAIN], 2, true, 1), 10_000);
}

#[test]
fn twenty_faults_on_three_jobs_by_chance() {
    for seed in 0..2_000 {
        let world = World::new(&[IMPORT, PLAIN, CALL], 3, seed % 2 == 0, 20);
        let steps = wander(world, seed, 500).unwrap_or_else(|found| panic!("with seed {seed}: {found:?}"));
        assert!(steps > 0);
    }
}
