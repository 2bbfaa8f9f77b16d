//! `echo`: answers its payload. The smallest kind, to copy from, and the one to try things out with: it can sleep, keep
//! a core busy, fail and panic on demand.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use async_trait::async_trait;
use offload_common::kind::KindSpec;
use offload_common::{RawJson, clock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kind::{Context, JobError, JobKind};

/// How many progress reports a sleep is divided into.
const STEPS: u32 = 20;

/// Sleeps shorter than this, in seconds, report no progress: a benchmark's echo shall cost nothing else.
const REPORTED_SLEEP: f64 = 1.0;

pub(super) struct Echo;

/// What to answer, and what to go through before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    /// Any JSON; it comes back untouched.
    #[serde(default)]
    #[schemars(with = "serde_json::Value", example = json!({"order": 17}))]
    value: Option<RawJson>,
    /// Seconds to wait before answering, with progress every twentieth of it.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 86_400.0), example = 0.25)]
    sleep_seconds: f64,
    /// Seconds to keep one core busy before answering.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 86_400.0), example = 0.25)]
    cpu_seconds: f64,
    /// So many attempts fail, with the code `asked_to_fail`, before one succeeds.
    #[serde(default)]
    #[schemars(range(max = 100))]
    fail_attempts: u32,
    /// Whether to panic instead of answering, as a handler with a bug would.
    #[serde(default)]
    panic: bool,
}

/// What was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Output {
    /// The payload's `value`.
    #[schemars(with = "serde_json::Value")]
    value: Option<RawJson>,
}

#[async_trait]
impl JobKind for Echo {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        let description = "Answers its payload; can sleep, keep a core busy, fail and panic, for trying things out.";
        KindSpec::new::<Payload, Output>("echo", description).repeatable()
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        sleep(job, payload.sleep_seconds).await;
        if payload.cpu_seconds > 0.0 {
            let (time, stop) = (seconds(payload.cpu_seconds), job.stop().clone());
            job.compute(move || {
                burn(time, &stop);
                Ok(())
            })
            .await?;
        }
        if job.attempt <= payload.fail_attempts {
            let message = format!("attempt {} of {} that fail on demand", job.attempt, payload.fail_attempts);
            return Err(JobError::retry("asked_to_fail", message));
        }
        assert!(!payload.panic, "the payload asked for a panic");
        Ok(Output { value: payload.value })
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::ZERO)
}

async fn sleep(job: &Context, length: f64) {
    if length < REPORTED_SLEEP {
        return tokio::time::sleep(seconds(length)).await;
    }
    for step in 1..=STEPS {
        tokio::time::sleep(seconds(length) / STEPS).await;
        job.progress(f64::from(step) / f64::from(STEPS), "sleeping");
    }
}

/// Keeps this thread busy for `time`, or until it is to stop.
fn burn(time: Duration, stop: &CancellationToken) {
    let started = clock::instant();
    let mut hasher = DefaultHasher::new();
    while started.elapsed() < time && !stop.is_cancelled() {
        for round in 0..10_000_u32 {
            round.hash(&mut hasher);
        }
        std::hint::black_box(hasher.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::kind::KindCatalog;

    #[test]
    fn the_value_passes_untouched() {
        let text = r#"{"value":{"b":1.0,  "a":12345678901234567890123,"a":"é\u00e9"}}"#;
        let payload: Payload = serde_json::from_str(text).expect("fits");
        let output = serde_json::to_string(&Output { value: payload.value }).expect("serializes");
        assert_eq!(output, text);
    }

    #[test]
    fn without_a_value_the_answer_is_null() {
        let payload: Payload = serde_json::from_str("{}").expect("fits");
        assert_eq!(serde_json::to_string(&Output { value: payload.value }).expect("serializes"), r#"{"value":null}"#);
    }

    #[test]
    fn the_schema_finds_what_is_wrong() {
        let catalog = KindCatalog::new([Echo.spec()]).expect("compiles");
        let pointers = |payload| {
            let found = catalog.violations("echo", &payload).expect("known");
            found.into_iter().map(|violation| violation.pointer).collect::<Vec<_>>()
        };
        assert!(pointers(json!({})).is_empty());
        assert!(
            pointers(json!({"value": null, "sleep_seconds": 0.5, "cpu_seconds": 1, "fail_attempts": 2})).is_empty()
        );
        assert_eq!(pointers(json!({"sleep_seconds": -1})), ["/sleep_seconds"]);
        assert_eq!(pointers(json!({"cpu_seconds": "1"})), ["/cpu_seconds"]);
        assert_eq!(pointers(json!({"valu": 1})), ["/valu"]);
        assert_eq!(pointers(json!([])), [""]);
    }

    #[test]
    fn burning_ends_when_told_to_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        burn(Duration::MAX, &stop);
    }

    #[test]
    fn burning_takes_its_time() {
        let started = clock::instant();
        burn(Duration::from_millis(20), &CancellationToken::new());
        assert!(started.elapsed() >= Duration::from_millis(20));
    }
}
