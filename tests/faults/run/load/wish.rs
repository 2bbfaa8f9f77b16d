//! The jobs that are submitted: what is asked for, and so what may come of it.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// The code that a job fails with on demand.
pub(crate) const ASKED_TO_FAIL: &str = "asked_to_fail";

/// The kind of the job that takes all memory.
pub(crate) const HOG: &str = "fault.hog";

/// A job that a client wants to have run.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Its `Idempotency-Key`.
    pub(crate) key: String,
    pub(crate) kind: &'static str,
    /// So many attempts fail on demand.
    pub(crate) fail_attempts: u32,
    pub(crate) max_attempts: u32,
    /// When the client thinks better of it, counted from its acceptance.
    pub(crate) cancel_after: Option<Duration>,
    /// Whether it is to be told of.
    pub(crate) callback: bool,
    /// The jobs that it runs after.
    pub(crate) after: Vec<String>,
    /// Whether it is cancelled where one of those does not succeed.
    pub(crate) gives_way: bool,
    pub(crate) body: Value,
}

impl Wish {
    /// Mostly short ones that write to the ledger, and some of everything else.
    pub(crate) fn draw(key: String, callback: &Value, random: &mut StdRng) -> Self {
        let mut chance = |share: f64| random.random_bool(share);
        let (long, medium, fails, hopeless) = (chance(0.03), chance(0.1), chance(0.07), chance(0.01));
        let (once, later, echo, early) = (chance(0.1), chance(0.05), chance(0.08), chance(0.15));
        let (high, low, cancel, told) = (chance(0.2), chance(0.2), chance(0.04), chance(0.08));
        // One that is tried several times does not take long each time.
        let seconds = match (long && !fails && !hopeless, medium) {
            (true, _) => random.random_range(2.0..5.0),
            (_, true) => random.random_range(0.2..1.5),
            _ => random.random_range(0.0..0.03),
        };
        let fail_attempts = match (hopeless, fails && !once) {
            (true, _) => 2,
            (_, true) => random.random_range(1..=2),
            _ => 0,
        };
        let max_attempts = match (hopeless, once) {
            (true, _) => 2,
            (_, true) => 1,
            _ => 5,
        };
        let kind = if echo { "echo" } else { "fault.ledger" };
        let payload = if echo {
            json!({"value": key, "sleep_seconds": seconds, "fail_attempts": fail_attempts})
        } else {
            // A transaction that stays open takes one of the process's few connections.
            json!({"seconds": seconds, "fail_attempts": fail_attempts, "early": early && seconds < 1.0})
        };
        let priority = match (high, low) {
            (true, _) => "high",
            (_, true) => "low",
            _ => "normal",
        };
        let mut body = json!({"kind": kind, "payload": payload, "priority": priority, "max_attempts": max_attempts});
        if later {
            body["delay_seconds"] = json!(random.random_range(0.2..3.0));
        }
        if told {
            body["callback"] = callback.clone();
        }
        let cancel_after = cancel.then(|| Duration::from_secs_f64(random.random_range(0.0..1.0)));
        let (after, gives_way) = (Vec::new(), false);
        Self { key, kind, fail_attempts, max_attempts, cancel_after, callback: told, after, gives_way, body }
    }

    /// The same, to run after these.
    pub(crate) fn behind(mut self, parents: Vec<String>, gives_way: bool) -> Self {
        self.body["after"] = json!(parents);
        self.body["after_policy"] = json!(if gives_way { "cancel" } else { "run" });
        Self { after: parents, gives_way, ..self }
    }

    /// The job that takes all the memory it can have, again and again.
    pub(crate) fn hog(key: String) -> Self {
        let body = json!({"kind": HOG, "payload": {}, "priority": "high"});
        let (kind, callback, after, gives_way) = (HOG, false, Vec::new(), false);
        Self { key, kind, fail_attempts: 0, max_attempts: 5, cancel_after: None, callback, after, gives_way, body }
    }
}
