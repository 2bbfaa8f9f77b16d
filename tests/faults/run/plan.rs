//! What happens in a run, all of it drawn from the seed.
//!
//! Seeds come in rounds of [`ROUND`]. In most rounds every family of faults is met once, dealt over the runs of the round, and
//! the faults of a run overlap as they fall. In every third round a run has one family alone, three times.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::fault::{FAMILIES, Fault, Scale};

/// Runs that together meet every family.
pub(crate) const ROUND: u64 = 6;

/// How long the load lasts at least.
pub(crate) const LOAD: Duration = Duration::from_secs(15);

/// The first faults come this long after the load begins; those that are alone, this long after another.
const FIRST: f64 = 1.0;
const ALONE: f64 = 5.0;

/// A run's plan.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    /// When each begins, counted from the start of the load.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

/// How the processes are set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A lease of 3 s, and 5 s to drain; else the defaults.
    pub(crate) short_times: bool,
    pub(crate) slots: u32,
    pub(crate) queue_type: &'static str,
    /// Jobs that a lane may have queued.
    pub(crate) window: u32,
    pub(crate) lazy_claim_seconds: f64,
    pub(crate) ack_after_seconds: f64,
    /// Jobs submitted per second.
    pub(crate) rate: f64,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        let (round, hand) = (seed / ROUND, (seed % ROUND) as usize);
        let mut random = StdRng::seed_from_u64(seed);
        let scale = if round % 5 == 4 { Scale::Long } else { Scale::Short };
        let settings = Settings {
            short_times: scale == Scale::Short,
            slots: *[8, 16, 64].choose(&mut random).expect("not empty"),
            queue_type: if random.random_ratio(1, 3) { "classic" } else { "quorum" },
            window: *[20, 200, 10_000].choose(&mut random).expect("not empty"),
            lazy_claim_seconds: *[0.05, 0.5].choose(&mut random).expect("not empty"),
            ack_after_seconds: *[1.0, 30.0].choose(&mut random).expect("not empty"),
            rate: random.random_range(30.0..60.0),
        };
        let faults = if round % 3 == 2 {
            let family = ((round / 3) * ROUND + hand as u64) as usize % FAMILIES;
            let fault = |n: u32| {
                let at = Duration::from_secs_f64(FIRST + f64::from(n) * ALONE);
                (at, Fault::of_family(family, &mut random, scale))
            };
            (0..3).map(fault).collect()
        } else {
            let mut families = deal(round, hand);
            families.shuffle(&mut random);
            let pause = (LOAD.as_secs_f64() - FIRST) / families.len() as f64;
            let fault = |(n, family): (usize, usize)| {
                let at = FIRST + pause * (n as f64 + random.random_range(0.0..1.0));
                (Duration::from_secs_f64(at), Fault::of_family(family, &mut random, scale))
            };
            families.into_iter().enumerate().map(fault).collect()
        };
        Self { seed, settings, faults }
    }
}

/// The families of one run of a round. Neighbours of the list go to different runs.
fn deal(round: u64, hand: usize) -> Vec<usize> {
    let mut random = StdRng::seed_from_u64(u64::MAX - round);
    let mut families: Vec<usize> = (0..FAMILIES).collect();
    let mut dealt = Vec::new();
    for group in families.chunks_mut(ROUND as usize) {
        group.shuffle(&mut random);
        dealt.extend(group.get(hand));
    }
    dealt
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn families(seeds: std::ops::Range<u64>) -> BTreeSet<String> {
        seeds.flat_map(|seed| Plan::new(seed).faults).map(|(_, fault)| fault.family()).collect()
    }

    #[test]
    fn a_round_meets_every_family() {
        assert_eq!(families(0..ROUND).len(), FAMILIES);
        assert_eq!(families(ROUND..2 * ROUND).len(), FAMILIES);
    }

    #[test]
    fn every_family_is_alone_in_some_run() {
        let alone = |seed: &u64| families(*seed..seed + 1).len() == 1;
        let alone: BTreeSet<_> = (0..200).filter(alone).flat_map(|seed| families(seed..seed + 1)).collect();
        assert_eq!(alone.len(), FAMILIES);
    }

    #[test]
    fn every_run_has_three_faults_and_a_seed_says_which() {
        for seed in 0..200 {
            let plan = Plan::new(seed);
            assert!(plan.faults.len() >= 3, "{plan:?}");
            assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::new(seed)));
        }
    }
}
