//! What a measurement comes to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cpu::CpuPerJob;
use crate::scenarios::Case;

/// One measurement of one subject.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    /// Samples of the same round were taken side by side.
    pub(crate) round: u32,
    /// What was measured.
    pub(crate) case: Case,
    /// Whose figures these are.
    pub(crate) subject: String,
    /// The figures.
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// What was measured; what does not apply is left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    /// Jobs or requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    /// Of the time that each took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    /// Of the time that each took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    /// Statements per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) statements: Option<f64>,
    /// Where the time went, if this machine knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us: Option<CpuPerJob>,
}

impl Figures {
    /// So many in that time.
    pub(crate) fn rate(count: usize, elapsed: Duration) -> Self {
        Self { rate: Some(count as f64 / elapsed.as_secs_f64()), ..Self::default() }
    }

    /// With the percentiles of these times, in milliseconds.
    pub(crate) fn latencies(mut self, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied();
        (self.p50_ms, self.p99_ms) = (at(0.50), at(0.99));
        self
    }

    /// How many times as fast as the other this is: by the rate, or else by the median time.
    pub(crate) fn ratio(&self, other: &Self) -> Option<f64> {
        let rates = self.rate.zip(other.rate).map(|(mine, theirs)| mine / theirs);
        rates.or_else(|| self.p50_ms.zip(other.p50_ms).map(|(mine, theirs)| theirs / mine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_before_times() {
        let slow = Figures::rate(10, Duration::from_secs(1));
        let fast = Figures::rate(30, Duration::from_secs(1));
        assert_eq!(fast.ratio(&slow), Some(3.0));
        let times = |ms: f64| Figures::default().latencies(vec![ms; 3]);
        assert_eq!(times(2.0).ratio(&times(3.0)), Some(1.5));
        assert_eq!(times(2.0).ratio(&slow), None);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let figures = Figures::default().latencies((1..=200).rev().map(f64::from).collect());
        assert_eq!((figures.p50_ms, figures.p99_ms), (Some(101.0), Some(199.0)));
        assert_eq!(Figures::default().latencies(vec![]).p50_ms, None);
    }
}
