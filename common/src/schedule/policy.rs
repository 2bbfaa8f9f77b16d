//! What becomes of fires that do not simply come one after the other: some were missed, or the last one's job still runs.

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::timing::Timing;

/// What becomes of fires that were missed, since nothing was there to make them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are left out.
    Skip,
    /// All of them together are made up for by one: the last of them, unless the next is due by now.
    #[default]
    One,
    /// Each is made up for, up to `max_missed` of the latest.
    All,
}

/// What becomes of a fire while what the last one submitted, a job or a batch, has not come to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Its job is submitted all the same.
    Allow,
    /// It is left out.
    #[default]
    Skip,
    /// It waits for that.
    Queue,
    /// The job or the batch of the last one is cancelled.
    CancelPrevious,
}

macro_rules! words {
    ($($type:ident: $what:literal, $($variant:ident $word:literal)*;)*) => { $(
        impl $type {
            /// Every one.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The name in the API and in the stores.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($type::$variant => $word,)*
                }
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let names = || Self::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
                let found = Self::ALL.iter().find(|known| known.as_str() == text);
                found.copied().ok_or_else(|| format!("must be {}: one of {}", $what, names()))
            }
        }
    )* };
}
words! {
    Missed: "a policy for missed fires", Skip "skip" One "one" All "all";
    Overlap: "a policy for overlapping fires", Allow "allow" Skip "skip" Queue "queue" CancelPrevious "cancel_previous";
    Outcome: "an outcome", Fired "fired" CaughtUp "caught_up" RunNow "run_now" Waiting "waiting" Skipped "skipped";
    Reason: "a reason", Missed "missed" Overlap "overlap" UniqueKey "unique_key";
}

/// What became of a fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its job was submitted in time.
    Fired,
    /// Its job was submitted later, having been missed.
    CaughtUp,
    /// Its job was submitted because somebody asked for it.
    RunNow,
    /// Its job is submitted once the one before has come to its end.
    Waiting,
    /// It was left out.
    Skipped,
}

/// Why a fire was not made in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing was there to make it.
    Missed,
    /// The job of the one before had not come to its end.
    Overlap,
    /// Another live job had the `unique_key` of its job.
    UniqueKey,
}

/// What was decided about a fire, or about several in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The nominal time; of several, the first.
    pub fire_at: DateTime<Utc>,
    /// Of several, the last; else the same.
    pub through: DateTime<Utc>,
    /// How many there are, counted up to [`COUNTED`].
    pub count: u32,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why it is not simply fired.
    pub reason: Option<Reason>,
}

/// What is to become of the fires that are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub verdicts: Vec<Verdict>,
    /// Whether what the last fire submitted is to be cancelled.
    pub cancel_previous: bool,
    /// The next fire to decide about; `None` if there is none any more.
    pub next_at: Option<DateTime<Utc>>,
}

/// How things stand when fires are due.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// The next fire that nothing has been decided about.
    pub next_at: DateTime<Utc>,
    /// Now.
    pub now: DateTime<Utc>,
    /// Whether what the last fire submitted has not come to its end, or other fires wait for it.
    pub busy: bool,
    /// How many fires wait.
    pub waiting: u32,
    /// How many fires are decided about at most; what is left is due again at once.
    pub at_once: usize,
}

/// Fires that are left out are counted one by one up to here.
pub const COUNTED: u32 = 10_000;
/// Fires that wait at most; those beyond are left out.
pub const MAX_WAITING: u32 = 1_000;
/// Missed fires that can be made up for at most.
pub const MAX_MISSED: u32 = 1_000;
/// The last fire that is due is in time if it is no older than half the time to the next one, and in any case than this.
const IN_TIME: TimeDelta = TimeDelta::seconds(60);
const IN_TIME_AT_LEAST: TimeDelta = TimeDelta::seconds(1);

/// Decides about all fires that are due. A fire is missed if by now the next one is due, too, or if it is late.
#[must_use]
pub fn plan(timing: &Timing, missed: Missed, max_missed: u32, overlap: Overlap, situation: Situation) -> Plan {
    let Due { older, mut fires } = due(timing, &situation, if missed == Missed::All { max_missed } else { 1 });
    let mut verdicts: Vec<Verdict> = older.into_iter().collect();
    let rest = if fires.len() > situation.at_once { fires.split_off(situation.at_once) } else { Vec::new() };
    let Some(last) = fires.last().copied() else { return Plan { verdicts, cancel_previous: false, next_at: None } };
    let next = timing.after(last).map(|fire| fire.at);
    let last_in_time = rest.is_empty() && is_in_time(last, next, situation.now);
    if missed == Missed::Skip && !last_in_time {
        skip(&mut verdicts, last, Reason::Missed);
        return Plan { verdicts, cancel_previous: false, next_at: next };
    }

    let (mut busy, mut waiting) = (situation.busy, situation.waiting);
    // Those of one decision do not shut each other out.
    let mut together = false;
    for fire in fires {
        let late = !(fire == last && last_in_time);
        let reason = late.then_some(Reason::Missed);
        let outcome = match overlap {
            _ if !busy => Outcome::Fired,
            Overlap::Allow => Outcome::Fired,
            Overlap::CancelPrevious if fire == last => Outcome::Fired,
            Overlap::Queue => Outcome::Waiting,
            Overlap::Skip if together || (late && missed == Missed::All) => Outcome::Waiting,
            Overlap::Skip | Overlap::CancelPrevious => Outcome::Skipped,
        };
        let outcome = match outcome {
            Outcome::Fired if overlap == Overlap::CancelPrevious && fire != last => Outcome::Skipped,
            Outcome::Fired if late => Outcome::CaughtUp,
            Outcome::Waiting if waiting >= MAX_WAITING => Outcome::Skipped,
            other => other,
        };
        match outcome {
            Outcome::Skipped => skip(&mut verdicts, fire, Reason::Overlap),
            outcome => {
                let reason = if outcome == Outcome::Waiting { reason.or(Some(Reason::Overlap)) } else { reason };
                verdicts.push(Verdict { fire_at: fire, through: fire, count: 1, outcome, reason });
                waiting += u32::from(outcome == Outcome::Waiting);
                (busy, together) = (true, true);
            }
        }
    }
    let cancel_previous = overlap == Overlap::CancelPrevious && situation.busy;
    Plan { verdicts, cancel_previous, next_at: rest.first().copied().or(next) }
}

fn is_in_time(fire: DateTime<Utc>, next: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let half = next.map_or(IN_TIME, |next| (next - fire) / 2);
    now - fire <= half.clamp(IN_TIME_AT_LEAST, IN_TIME)
}

/// Adds a fire that is left out, to those right before it that are left out for the same reason.
fn skip(verdicts: &mut Vec<Verdict>, fire: DateTime<Utc>, reason: Reason) {
    match verdicts.last_mut() {
        Some(last) if (last.outcome, last.reason) == (Outcome::Skipped, Some(reason)) => {
            last.through = fire;
            last.count = (last.count + 1).min(COUNTED);
        }
        _ => {
            let (outcome, reason) = (Outcome::Skipped, Some(reason));
            verdicts.push(Verdict { fire_at: fire, through: fire, count: 1, outcome, reason });
        }
    }
}

/// Fires that are due: the latest, and what there is before them.
struct Due {
    older: Option<Verdict>,
    fires: Vec<DateTime<Utc>>,
}

fn due(timing: &Timing, situation: &Situation, wanted: u32) -> Due {
    let Situation { next_at, now, .. } = *situation;
    let later = timing.fires_after(next_at).map(|fire| fire.at).take_while(|at| *at <= now);
    let mut fires: Vec<_> = std::iter::once(next_at).chain(later).take(COUNTED as usize + 1).collect();
    let all_seen = fires.len() <= COUNTED as usize;
    let wanted = (wanted.max(1)) as usize;
    let latest =
        if all_seen { fires.split_off(fires.len().saturating_sub(wanted)) } else { latest(timing, situation, wanted) };
    let through = match latest.first() {
        Some(first) if !all_seen => timing.last_between(next_at, *first - TimeDelta::microseconds(1)),
        _ => fires.last().copied(),
    };
    let count = u32::try_from(fires.len()).unwrap_or(COUNTED).min(COUNTED);
    let (outcome, reason) = (Outcome::Skipped, Some(Reason::Missed));
    let older = through.map(|through| Verdict { fire_at: next_at, through, count, outcome, reason });
    Due { older, fires: latest }
}

/// The latest fires, found from the last one backwards.
fn latest(timing: &Timing, situation: &Situation, wanted: usize) -> Vec<DateTime<Utc>> {
    let before = |at: DateTime<Utc>| timing.last_between(situation.next_at, at);
    let last = before(situation.now);
    let mut latest: Vec<_> =
        std::iter::successors(last, |at| before(*at - TimeDelta::microseconds(1))).take(wanted).collect();
    latest.reverse();
    latest
}

#[cfg(test)]
mod tests;
