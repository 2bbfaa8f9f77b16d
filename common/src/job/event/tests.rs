//! What a trail tells: by a table, and by lives at random.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::job::transition::{Decision, Event, Failure, Retry, Snapshot, decide};
use crate::retry::RetryPolicy;

#[test]
fn an_id_has_one_form() {
    for (text, epoch, n) in [("1-0", 1, 0), ("12-345", 12, 345), ("0-4294967295", 0, u32::MAX)] {
        let id: EventId = text.parse().expect("an id");
        assert_eq!((id, id.to_string().as_str()), (EventId { epoch, n }, text));
    }
    for text in ["", "1", "-", "1-", "-1", "1--1", "+1-0", "1-+0", " 1-0", "1-0 ", "1-0-0", "a-0", "1-4294967296"] {
        assert_eq!(text.parse::<EventId>(), Err(NoEventId), "{text}");
    }
    assert!(EventId { epoch: 9, n: 5 } < EventId { epoch: 10, n: 0 });
    assert!(EventId { epoch: 9, n: 5 } < EventId::end_of(9));
}

/// A row as the stores move it: what they do in SQL.
struct Row {
    trail: Trail,
    lines: u32,
}

impl Row {
    fn accepted(due: bool) -> Self {
        let at = DateTime::UNIX_EPOCH;
        let step = Step { epoch: 1, state: State::Scheduled, at, run_at: Some(at) };
        let trail = Trail {
            job: JobId::new(),
            tenant: String::new(),
            state: if due { State::Queued } else { State::Scheduled },
            epoch: 1,
            attempt: 0,
            created_at: at,
            started_at: None,
            finished_at: None,
            steps: if due { Vec::new() } else { vec![step] },
            history: Vec::new(),
            said: Vec::new(),
            more: false,
        };
        Self { trail, lines: 0 }
    }

    fn happen(&mut self, event: &Event, now: DateTime<Utc>) {
        let trail = &mut self.trail;
        let Trail { state, attempt, .. } = *trail;
        let job = Snapshot { state, attempt, max_attempts: 3, losses: 0, cancel_requested: false, waits: false };
        let Ok(Decision::Move(to)) = decide(&job, event, &RetryPolicy::default(), 0.5) else { return };
        trail.epoch += 1;
        let ran_lazily = state == State::Queued && !matches!(event, Event::Cancel | Event::Decline(_));
        if ran_lazily {
            trail.started_at = Some(now);
        }
        if let Some((code, message)) = to.failure {
            let (epoch, started_at) = (trail.epoch, trail.started_at);
            let attempt = to.attempt;
            let failed = Attempt { attempt, code, message, worker: None, started_at, ended_at: now, epoch };
            trail.history.push(failed);
        }
        let admitted = *event == Event::Promote && trail.steps.is_empty();
        if to.to.is_final() {
            trail.finished_at = Some(now);
        } else if !admitted {
            trail.steps.push(Step { epoch: trail.epoch, state: to.to, at: now, run_at: None });
        }
        (trail.state, trail.attempt) = (to.to, to.attempt);
        self.lines = 0;
    }

    fn say(&mut self, at: DateTime<Utc>) {
        if self.trail.state == State::Running {
            self.lines += 1;
            let (epoch, n) = (self.trail.epoch, self.lines);
            let fraction = (n % 2 == 0).then_some(0.5);
            self.trail.said.push(Said { epoch, n, at, level: "info".into(), message: "m".into(), fraction });
        }
    }
}

fn life() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..14, 0..40)
}

fn event(choice: u8) -> Option<Event> {
    let fail = |retry| Event::Fail(Failure { code: "c".into(), message: "m".into(), retry });
    Some(match choice {
        0..3 => Event::Promote,
        3..6 => Event::Claim,
        6 => fail(Retry::Backoff),
        7 => Event::Release,
        8 => Event::Snooze(Duration::from_secs(1)),
        9 => Event::Decline(Duration::from_secs(1)),
        10 => [Event::Succeed, Event::Cancel, fail(Retry::Never)][choice as usize % 3].clone(),
        _ => return None,
    })
}

proptest! {
    /// Told live, look by look, or read again from any event on: the same.
    #[test]
    fn a_live_stream_is_the_trail_read_on(life in life(), looks in prop::collection::vec(any::<bool>(), 40), due: bool) {
        let (mut row, mut live, mut now) = (Row::accepted(due), Vec::new(), DateTime::UNIX_EPOCH);
        for (choice, look) in life.into_iter().zip(looks) {
            now += Duration::from_secs(1);
            match event(choice) {
                Some(event) => row.happen(&event, now),
                None => row.say(now),
            }
            if look {
                live.extend(row.trail.events(live.last().map(|event: &JobEvent| event.id)));
            }
        }
        live.extend(row.trail.events(live.last().map(|event: &JobEvent| event.id)));
        let replayed = row.trail.events(None);
        prop_assert_eq!(&live, &replayed);
        prop_assert!(replayed.iter().is_sorted_by(|a, b| a.id < b.id));
        for (place, event) in replayed.iter().enumerate() {
            prop_assert_eq!(&row.trail.events(Some(event.id)), &replayed[place + 1..]);
        }
    }
}
