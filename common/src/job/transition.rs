//! The one place that decides what becomes of a job: state × event → transition, or illegal.
//!
//! Stores apply what is decided here and decide nothing themselves. Where a store moves many rows in one statement
//! (promote, reap, cancel), its conformance suite holds the statement against this function.

use std::time::Duration;

use super::State;
use crate::retry::RetryPolicy;

/// Losing its worker this often ends a job: it is taken to be what kills them.
pub const MAX_LOSSES: u32 = 3;

/// From this many losses on a job is a *suspect*: it may be what kills workers. A process runs one of those at a time, so
/// that it takes no other with it. A first loss is no reason for suspicion: most of the jobs of a worker that died only
/// stood beside, and are to run elsewhere at once.
pub const SUSPECT_LOSSES: u32 = 2;

/// The code of the error of a job whose worker was lost under it.
pub const WORKER_LOST: &str = "worker_lost";

/// What the decision looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Where the job stands.
    pub state: State,
    /// Attempts started and not handed back.
    pub attempt: u32,
    /// At most this many.
    pub max_attempts: u32,
    /// How often a worker was lost under it.
    pub losses: u32,
    /// A client wants it cancelled, and it runs.
    pub cancel_requested: bool,
    /// It waits for other jobs to end.
    pub waits: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The jobs that it runs after have ended as it wants.
    Proceed,
    /// One of the jobs that it runs after has ended otherwise.
    Forsake(Failure),
    /// Its time has come and its lane has room.
    Promote,
    /// A worker takes it.
    Claim,
    /// Its handler came to a result.
    Succeed,
    /// Its handler failed, timed out or panicked.
    Fail(Failure),
    /// Its handler wants to be called again later; no attempt is spent.
    Snooze(Duration),
    /// The worker that has it cannot run it (a kind it does not know, in a rolling deploy); no attempt is spent.
    Decline(Duration),
    /// Its worker drains and hands it back; no attempt is spent.
    Release,
    /// Its worker is gone.
    Lose,
    /// A client wants it cancelled.
    Cancel,
    /// Its handler was stopped because a client wants it cancelled.
    Stopped,
}

/// Why an attempt failed, and whether another may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A stable word for programs.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// Whether another attempt may follow.
    pub retry: Retry,
}

/// Whether another attempt may follow a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No: trying again cannot help.
    Never,
    /// Yes, by the job's policy.
    Backoff,
    /// Yes, and not before this has passed (a server said `Retry-After`).
    After(Duration),
}

/// A decided transition: what the row becomes. Applying it also adds one to the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The new state.
    pub to: State,
    /// The new attempt count.
    pub attempt: u32,
    /// The new count of lost workers.
    pub losses: u32,
    /// When it is due: this long after the store's now; `None` leaves the due time as it is.
    pub delay: Option<Duration>,
    /// A failed attempt, to be shown as the job's error and appended to its history.
    pub failure: Option<(String, String)>,
}

/// What an event does to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The row changes hands.
    Move(Transition),
    /// Only `cancel_requested` is set; the epoch stays, since the lease is still good.
    RequestCancel,
}

/// The event does not fit the state; nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {0} job does not take this event")]
pub struct Illegal(pub State);

/// Decides. `chance`, uniform in 0 to 1, spreads the delay of a retry.
///
/// # Errors
/// [`Illegal`] where the event does not fit the state.
pub fn decide(job: &Snapshot, event: &Event, policy: &RetryPolicy, chance: f64) -> Result<Decision, Illegal> {
    use State::{Cancelled, Failed, Queued, Running, Scheduled, Succeeded};

    let keep = Transition { to: job.state, attempt: job.attempt, losses: job.losses, delay: None, failure: None };
    // A lazy run ends on a row that still says `queued`: the attempt that it was is counted with its end.
    let run = match job.state {
        Queued => job.attempt + 1,
        _ => job.attempt,
    };
    let not_run = match job.state {
        Running => job.attempt.saturating_sub(1),
        _ => job.attempt,
    };
    // A wish to cancel outlives everything but success.
    let unless_cancelled = |to: State| if job.cancel_requested { Cancelled } else { to };

    let transition = match (job.state, event) {
        (Scheduled, Event::Proceed) if job.waits => keep,
        (Scheduled, Event::Forsake(failure)) if job.waits => {
            let failure = Some((failure.code.clone(), failure.message.clone()));
            Transition { to: Cancelled, failure, ..keep }
        }
        (Scheduled, Event::Promote) if !job.waits => Transition { to: Queued, ..keep },
        (Queued, Event::Claim) => Transition { to: Running, attempt: job.attempt + 1, ..keep },
        (Queued | Running, Event::Succeed) => Transition { to: Succeeded, attempt: run, ..keep },
        (Queued | Running, Event::Fail(failure)) => {
            let (to, delay) = match failure.retry {
                Retry::Never => (Failed, None),
                _ if run >= job.max_attempts => (Failed, None),
                Retry::Backoff => (Scheduled, Some(policy.delay(run, chance))),
                Retry::After(least) => (Scheduled, Some(policy.delay(run, chance).max(least))),
            };
            let to = unless_cancelled(to);
            let failure = Some((failure.code.clone(), failure.message.clone()));
            Transition { to, attempt: run, delay: delay.filter(|_| to == Scheduled), failure, ..keep }
        }
        (Queued | Running, Event::Snooze(delay)) | (Queued, Event::Decline(delay)) => {
            let to = unless_cancelled(Scheduled);
            Transition { to, attempt: not_run, delay: Some(*delay).filter(|_| to == Scheduled), ..keep }
        }
        (Running, Event::Release) => Transition { to: unless_cancelled(Queued), attempt: not_run, ..keep },
        (Running, Event::Lose) => {
            let losses = job.losses + 1;
            // With a single attempt the client asked for "never start twice", and nobody can tell how far it came.
            if job.cancel_requested {
                Transition { to: Cancelled, losses, ..keep }
            } else if losses >= MAX_LOSSES || job.max_attempts == 1 {
                let message = format!("the worker that ran it was lost ({losses} of at most {MAX_LOSSES} times)");
                Transition { to: Failed, losses, failure: Some((WORKER_LOST.to_owned(), message)), ..keep }
            } else {
                Transition { to: Queued, attempt: not_run, losses, ..keep }
            }
        }
        (Scheduled | Queued, Event::Cancel) => Transition { to: Cancelled, ..keep },
        (Running, Event::Cancel) => return Ok(Decision::RequestCancel),
        (Running, Event::Stopped) if job.cancel_requested => Transition { to: Cancelled, ..keep },
        _ => return Err(Illegal(job.state)),
    };
    Ok(Decision::Move(transition))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use proptest::prelude::*;

    fn events() -> Vec<(&'static str, Event)> {
        let failure = |retry| Event::Fail(Failure { code: "c".into(), message: "m".into(), retry });
        vec![
            ("proceed", Event::Proceed),
            ("forsake", Event::Forsake(Failure { code: "c".into(), message: "m".into(), retry: Retry::Never })),
            ("promote", Event::Promote),
            ("claim", Event::Claim),
            ("succeed", Event::Succeed),
            ("fail", failure(Retry::Never)),
            ("fail, retry", failure(Retry::Backoff)),
            ("fail, retry after 9 s", failure(Retry::After(Duration::from_secs(9)))),
            ("snooze 5 s", Event::Snooze(Duration::from_secs(5))),
            ("decline 1 s", Event::Decline(Duration::from_secs(1))),
            ("release", Event::Release),
            ("lose", Event::Lose),
            ("cancel", Event::Cancel),
            ("stopped", Event::Stopped),
        ]
    }

    fn describe(job: &Snapshot, event: &Event) -> String {
        match decide(job, event, &RetryPolicy::default(), 0.5) {
            Err(Illegal(_)) => "illegal".to_owned(),
            Ok(Decision::RequestCancel) => "cancel_requested".to_owned(),
            Ok(Decision::Move(t)) => {
                let mut line = format!("{} attempt {}", t.to, t.attempt);
                if t.losses != job.losses {
                    write!(line, ", losses {}", t.losses).expect("to a string");
                }
                if let Some(delay) = t.delay {
                    write!(line, ", in {} s", delay.as_secs()).expect("to a string");
                }
                if let Some((code, _)) = t.failure {
                    write!(line, ", error {code}").expect("to a string");
                }
                line
            }
        }
    }

    /// The table is the documentation of the protocol; a change of it is a change of behaviour.
    #[test]
    fn state_by_event_table() {
        let mut table = String::new();
        for state in State::ALL {
            let ran = u32::from(state == State::Running);
            let base =
                Snapshot { state, attempt: ran, max_attempts: 5, losses: 0, cancel_requested: false, waits: false };
            let mut cases = vec![("", base)];
            if state == State::Scheduled {
                cases.push((", waiting for others", Snapshot { waits: true, ..base }));
            }
            if state == State::Running {
                cases.push((", cancel requested", Snapshot { cancel_requested: true, ..base }));
                cases.push((", last attempt", Snapshot { attempt: 5, ..base }));
                cases.push((", only attempt", Snapshot { max_attempts: 1, ..base }));
                cases.push((", lost twice", Snapshot { losses: 2, ..base }));
            }
            for (note, job) in cases {
                writeln!(table, "{state}{note}").expect("to a string");
                for (name, event) in events() {
                    writeln!(table, "  {name:<24}{}", describe(&job, &event)).expect("to a string");
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        (0usize..6, 0u32..7, 1u32..7, 0u32..4, any::<bool>(), any::<bool>()).prop_map(
            |(s, attempt, max, losses, cancel, waits)| Snapshot {
                state: State::ALL[s],
                attempt: attempt.min(max),
                max_attempts: max,
                losses,
                cancel_requested: cancel,
                waits,
            },
        )
    }

    proptest! {
        #[test]
        fn final_states_take_no_event(job in any_snapshot(), event in 0usize..14) {
            let (_, event) = events().swap_remove(event);
            if job.state.is_final() {
                prop_assert!(decide(&job, &event, &RetryPolicy::default(), 0.5).is_err());
            }
        }

        #[test]
        fn attempts_never_pass_their_limit_when_counted_by_claims(job in any_snapshot(), event in 0usize..14) {
            let (_, event) = events().swap_remove(event);
            if job.state == State::Running
                && let Ok(Decision::Move(t)) = decide(&job, &event, &RetryPolicy::default(), 0.5)
            {
                prop_assert!(t.attempt <= job.max_attempts);
                // What is not final can still be claimed within the limit.
                prop_assert!(t.to.is_final() || t.attempt < job.max_attempts || job.attempt == 0);
            }
        }

        #[test]
        fn a_wish_to_cancel_is_never_lost(job in any_snapshot(), event in 0usize..14) {
            let (_, event) = events().swap_remove(event);
            if job.state == State::Running && job.cancel_requested
                && let Ok(Decision::Move(t)) = decide(&job, &event, &RetryPolicy::default(), 0.5)
            {
                prop_assert!(t.to.is_final());
            }
        }
    }
}
