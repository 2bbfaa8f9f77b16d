//! Waiting in tests: for a condition, with a deadline, never for a time.

use std::time::Duration;

use crate::clock;

/// How long a condition may take before the test fails: far longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks `condition` again and again until it gives something.
///
/// # Panics
/// After 30 s, naming `what` was waited for.
pub async fn eventually<T>(what: &str, condition: impl AsyncFnMut() -> Option<T>) -> T {
    let given = within(DEADLINE, condition).await;
    given.unwrap_or_else(|| panic!("{what}: not within {DEADLINE:?}"))
}

/// The same with a deadline of its own: `None` once that has passed.
pub async fn within<T>(deadline: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let started = clock::instant();
    loop {
        if let Some(value) = condition().await {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
