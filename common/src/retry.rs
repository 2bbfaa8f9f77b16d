//! Waiting before trying again: between the attempts of a job, and between attempts to reach a service.

use std::future::Future;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use serde::{Deserialize, Serialize};

/// How the delay between the attempts of a job grows: `first × factor^(n-1)`, at most `max`, spread by jitter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Seconds before the second attempt.
    pub first_seconds: f64,
    /// What each further delay is multiplied by.
    pub factor: f64,
    /// Seconds at most.
    pub max_seconds: f64,
    /// The share of the delay, 0 to 1, that chance takes off or adds.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first_seconds: 1.0, factor: 2.0, max_seconds: 3600.0, jitter: 0.1 }
    }
}

impl RetryPolicy {
    /// The delay after failed attempt `attempt` (from 1); `chance` is uniform in 0 to 1.
    #[must_use]
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let plain = (self.first_seconds * self.factor.powi(exponent)).min(self.max_seconds);
        let spread = 1.0 + self.jitter * (2.0 * chance - 1.0);
        Duration::try_from_secs_f64((plain * spread).min(self.max_seconds)).unwrap_or(Duration::ZERO)
    }
}

/// Waits for a service: tries `attempt` until it gives something, with growing pauses of 0.1 s to `longest`,
/// forever. Failures are logged with `what`: the first, the second, the fourth, and so on.
pub async fn until_reached<T, E, F, Fut>(what: &str, longest: Duration, mut attempt: F) -> T
where
    E: std::fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let policy = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(100))
        .with_max_interval(longest)
        .with_max_elapsed_time(None)
        .build();
    let mut failures = 0u32;
    let mut notify = |error: E, pause: Duration| {
        failures = failures.saturating_add(1);
        if failures.is_power_of_two() {
            tracing::warn!(what, %error, failures, pause_ms = pause.as_millis() as u64, "not reached; trying again");
        }
    };
    loop {
        let tried = backoff::future::retry_notify(
            policy.clone(),
            || {
                let next = attempt();
                async move { next.await.map_err(backoff::Error::transient) }
            },
            &mut notify,
        )
        .await;
        if let Ok(value) = tried {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn delays_double_from_one_second_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let seconds: Vec<f64> = (1..=14).map(|n| policy.delay(n, 0.5).as_secs_f64()).collect();
        assert_eq!(seconds[..5], [1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(seconds[13], 3600.0);
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(attempt in 1u32..=u32::MAX, chance in 0.0f64..1.0) {
            let policy = RetryPolicy::default();
            let delay = policy.delay(attempt, chance).as_secs_f64();
            prop_assert!((0.9..=3600.0).contains(&delay));
        }
    }
}
