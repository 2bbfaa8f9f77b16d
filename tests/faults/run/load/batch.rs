//! The batches and the schedule of a load.

use rand::RngExt;
use serde_json::{Value, json};

/// A batch that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct PromisedBatch {
    pub(crate) id: String,
    pub(crate) jobs: i64,
}

/// A batch as a client sends it: its lines, and how many of them are jobs. It has a follow-up and is told of; the last of its
/// jobs fails, and some before it fail once.
pub(super) fn draw(callback: &Value) -> (String, i64) {
    let ledger = |payload: Value| json!({"kind": "fault.ledger", "payload": payload});
    let head =
        json!({"batch": {"defaults": {"priority": "low"}, "follow_up": ledger(json!({})), "callback": callback}});
    let jobs = rand::random_range(2..=20);
    let mut lines = vec![head];
    for n in 1..jobs {
        let seconds = rand::rng().random_range(0.0..0.2);
        lines.push(ledger(json!({"seconds": seconds, "fail_attempts": u32::from(n % 7 == 0)})));
    }
    let mut last = ledger(json!({"fail_attempts": 1}));
    last["max_attempts"] = json!(1);
    lines.push(last);
    (lines.iter().map(|line| format!("{line}\n")).collect(), jobs)
}

/// A schedule of every second, none of which is left out however late it is.
pub(super) fn every_second() -> Value {
    json!({
        "name": "every second", "every_seconds": 1, "overlap": "allow", "missed": "all", "max_missed": 1000,
        "job": {"kind": "fault.ledger", "payload": {}},
    })
}
