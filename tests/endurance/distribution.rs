//! Times that were measured, as a distribution.

use std::time::Duration;

/// Prints how many there are, and what share was how fast.
pub(crate) fn report(what: &str, times: &[Duration]) {
    let mut sorted: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    // The nearest rank: the smallest time that so many percent of all do not exceed.
    let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| rank(percent).unwrap_or(f64::NAN));
    println!("{what}: n {}, p50 {p50:.2} s, p90 {p90:.2} s, p99 {p99:.2} s, max {max:.2} s", sorted.len());
}

/// A count from the environment, for shorter and longer runs.
pub(crate) fn count(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a count")))
}
