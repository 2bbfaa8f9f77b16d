//! One schedule's turn: everything that is to be written when it is due.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::model::{Counts, Schedule};
use super::policy::{Outcome, Plan, Reason, Situation, Verdict, plan};
use super::submission::{Submission, Submitted};
use super::timing::BadTiming;
use crate::job::{JobId, NewJob};
use crate::store::Filling;

/// Fires that one turn submits for, and jobs that they submit together, at most, unless a single fire submits more; what is left
/// is due again at once.
const FIRES_AT_ONCE: usize = 100;
const AT_ONCE: usize = 10_000;

/// What a store finds when a schedule has its turn.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// The store's clock.
    pub now: DateTime<Utc>,
    /// Whether what the last fire submitted has not come to its end.
    pub last_runs: bool,
    /// The fire that has waited longest, and why.
    pub oldest_waiting: Option<(DateTime<Utc>, Option<Reason>)>,
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// New records, in order, with what is to be submitted.
    pub records: Vec<(Verdict, Option<Submission>)>,
    /// The record of a fire that waited, rewritten, with what is to be submitted.
    pub released: Option<(Verdict, Option<Submission>)>,
    /// What is to be cancelled first.
    pub cancel: Option<Submitted>,
    /// The schedule's `next_at` from now on.
    pub next_at: Option<DateTime<Utc>>,
    /// How many fires wait from now on.
    pub waiting: u32,
}

impl Turn {
    /// The last thing that it submits, with its fire.
    #[must_use]
    pub fn last(&self) -> Option<(DateTime<Utc>, Submitted)> {
        self.fires().filter_map(|(verdict, submission)| Some((verdict.fire_at, submission.as_ref()?.id()))).last()
    }

    /// Whether it submits anything.
    #[must_use]
    pub fn submits(&self) -> bool {
        self.last().is_some()
    }

    /// The jobs that it submits by themselves.
    pub fn jobs(&self) -> impl Iterator<Item = &NewJob> {
        self.fires().filter_map(|(_, submission)| match submission {
            Some(Submission::Job(job)) => Some(&**job),
            _ => None,
        })
    }

    /// The batches that it submits.
    pub fn batches(&self) -> impl Iterator<Item = (&Filling, &[NewJob])> {
        self.fires().filter_map(|(_, submission)| match submission {
            Some(Submission::Batch(filling, jobs)) => Some((filling, &jobs[..])),
            _ => None,
        })
    }

    /// What is decided, in order: the fire that waited, then the new records.
    fn fires(&self) -> impl Iterator<Item = &(Verdict, Option<Submission>)> {
        self.released.iter().chain(&self.records)
    }

    /// Leaves out the records of fires that are recorded already, as after a change that brought a fire back: what was
    /// decided before holds.
    pub fn leave_out(&mut self, recorded: &HashSet<DateTime<Utc>>) {
        let waited = |records: &[(Verdict, Option<Submission>)]| {
            records.iter().filter(|(verdict, _)| verdict.outcome == Outcome::Waiting).count()
        };
        let before = waited(&self.records);
        self.records.retain(|(verdict, _)| !recorded.contains(&verdict.fire_at));
        let gone = u32::try_from(before - waited(&self.records)).unwrap_or(u32::MAX);
        self.waiting = self.waiting.saturating_sub(gone);
    }

    /// Leaves out the fires of jobs that were not accepted, since others have their unique keys.
    pub fn refuse(&mut self, refused: &HashSet<JobId>) {
        for (verdict, submission) in self.released.iter_mut().chain(&mut self.records) {
            let job = submission.as_ref().and_then(|submission| submission.id().job());
            if job.is_some_and(|job| refused.contains(&job)) {
                (verdict.outcome, verdict.reason, *submission) = (Outcome::Skipped, Some(Reason::UniqueKey), None);
            }
        }
    }

    /// The records that are there and say something else by now: of the fire that waited, and of those that were refused.
    pub fn rewritten(&self) -> impl Iterator<Item = (&Verdict, Option<Submitted>)> {
        let refused = self.records.iter().filter(|(verdict, _)| verdict.reason == Some(Reason::UniqueKey));
        self.released
            .iter()
            .chain(refused)
            .map(|(verdict, submission)| (verdict, submission.as_ref().map(Submission::id)))
    }

    /// By how much the counts grow.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (verdict, _) in self.fires() {
            let counted = match verdict.outcome {
                Outcome::Fired => &mut counts.fired,
                Outcome::CaughtUp => &mut counts.caught_up,
                Outcome::RunNow => &mut counts.run_now,
                Outcome::Skipped => &mut counts.skipped,
                Outcome::Waiting => continue,
            };
            *counted += u64::from(verdict.count);
        }
        counts
    }
}

impl Schedule {
    /// What is to become of this schedule now: of a fire that waits, then of those that are due.
    ///
    /// # Errors
    /// [`BadTiming`] where what is stored is none.
    pub fn turn(&self, finding: &Finding) -> Result<Turn, BadTiming> {
        let Finding { now, last_runs, oldest_waiting } = *finding;
        let timing = self.definition.timing(self.anchor)?;
        let mut turn = Turn { next_at: self.next_at, waiting: self.waiting, ..Turn::default() };
        if let Some((fire_at, reason)) = oldest_waiting.filter(|_| !last_runs) {
            let missed = reason == Some(Reason::Missed);
            let outcome = if missed { Outcome::CaughtUp } else { Outcome::Fired };
            let verdict = Verdict { fire_at, through: fire_at, count: 1, outcome, reason };
            turn.released = Some((verdict, Some(self.submission(&timing, fire_at))));
            turn.waiting = self.waiting.saturating_sub(1);
        }
        let Some(next_at) = self.next_at.filter(|next_at| *next_at <= now) else { return Ok(turn) };
        let busy = last_runs || turn.waiting > 0 || turn.released.is_some();
        let definition = &self.definition;
        let at_once = (AT_ONCE / definition.template.jobs().count().max(1)).clamp(1, FIRES_AT_ONCE);
        let situation = Situation { next_at, now, busy, waiting: turn.waiting, at_once };
        let plan = plan(&timing, definition.missed, definition.max_missed, definition.overlap, situation);
        let Plan { verdicts, cancel_previous, next_at } = plan;
        turn.next_at = next_at;
        turn.cancel = self.last.filter(|_| cancel_previous && last_runs);
        for verdict in verdicts {
            turn.waiting += u32::from(verdict.outcome == Outcome::Waiting);
            let submits = matches!(verdict.outcome, Outcome::Fired | Outcome::CaughtUp);
            let submission = submits.then(|| self.submission(&timing, verdict.fire_at));
            turn.records.push((verdict, submission));
        }
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{BatchId, Priority, ScheduleId};
    use crate::schedule::{BatchTemplate, Counts, Definition, JobTemplate, Missed, Overlap, Recurrence, Template};

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-11-23T{time}Z").parse().expect("a time")
    }

    /// Every ten minutes; next at 10:00.
    fn schedule(overlap: Overlap) -> Schedule {
        let job = JobTemplate {
            kind: "echo".into(),
            queue: "default".into(),
            priority: Priority::Low,
            payload: serde_json::from_str(r#"{"day": "{{fire.date}}"}"#).expect("JSON"),
            max_attempts: 3,
            timeout_seconds: 7,
            retry_policy: crate::retry::RetryPolicy::default(),
            metadata: None,
            tags: vec!["nightly".into()],
            callback: None,
            unique_key: None,
        };
        let definition = Definition {
            recurrence: Recurrence::Cron("*/10 * * * *".into()),
            time_zone: "Pacific/Auckland".into(),
            starts_at: None,
            ends_at: None,
            jitter_seconds: 30.0,
            missed: Missed::One,
            max_missed: 100,
            overlap,
            template: Template::Job(job),
        };
        Schedule {
            id: ScheduleId::new(),
            tenant: "t".into(),
            name: "n".into(),
            definition,
            version: 1,
            paused: false,
            anchor: at("00:00:00"),
            next_at: Some(at("10:00:00")),
            last_fire_at: None,
            last: Some(Submitted::Job(JobId::new())),
            waiting: 0,
            counts: Counts::default(),
            trouble: None,
            created_at: at("00:00:00"),
            updated_at: at("00:00:00"),
        }
    }

    fn finding(now: &str, last_runs: bool) -> Finding {
        Finding { now: at(now), last_runs, oldest_waiting: None }
    }

    #[test]
    fn a_job_is_made_from_the_template_and_the_fire() {
        let schedule = schedule(Overlap::Skip);
        let turn = schedule.turn(&finding("10:00:00", false)).expect("a turn");
        let job = turn.jobs().next().expect("a job");
        assert_eq!(job.payload.get(), r#"{"day": "2026-11-23"}"#);
        assert_eq!((job.kind.as_str(), job.lane.priority, job.max_attempts), ("echo", Priority::Low, 3));
        assert_eq!(job.fired_by.expect("fired").at, at("10:00:00"));
        let late = job.run_at.expect("a time") - at("10:00:00");
        assert_eq!(late.to_std().expect("later"), schedule.definition.jitter(schedule.id, at("10:00:00")));
        assert_eq!((turn.next_at, turn.last()), (Some(at("10:10:00")), Some((at("10:00:00"), Submitted::Job(job.id)))));
    }

    #[test]
    fn a_fire_whose_job_is_refused_is_left_out() {
        let mut schedule = schedule(Overlap::Allow);
        schedule.definition.missed = Missed::All;
        schedule.waiting = 1;
        let oldest_waiting = Some((at("09:50:00"), Some(Reason::Overlap)));
        let mut turn = schedule.turn(&Finding { oldest_waiting, ..finding("10:10:00", false) }).expect("a turn");
        let jobs: Vec<JobId> = turn.jobs().map(|job| job.id).collect();
        let [waited, first, second] = jobs[..] else { panic!("expected three jobs, not {jobs:?}") };
        assert_eq!(turn.rewritten().map(|(_, id)| id).collect::<Vec<_>>(), [Some(Submitted::Job(waited))]);
        turn.refuse(&HashSet::from([waited, second]));
        assert_eq!((turn.last(), turn.jobs().count()), (Some((at("10:00:00"), Submitted::Job(first))), 1));
        let rewritten: Vec<_> = turn.rewritten().map(|(v, job)| (v.fire_at, v.outcome, v.reason, job)).collect();
        let skipped = |fire_at| (at(fire_at), Outcome::Skipped, Some(Reason::UniqueKey), None);
        assert_eq!(rewritten, [skipped("09:50:00"), skipped("10:10:00")]);
        assert_eq!(turn.counts(), Counts { caught_up: 1, skipped: 2, ..Counts::default() });
    }

    #[test]
    fn a_batch_is_made_from_the_template_and_the_fire() {
        let mut schedule = schedule(Overlap::CancelPrevious);
        let Template::Job(job) = schedule.definition.template.clone() else { panic!("it is a job") };
        let follow_up = Some(JobTemplate { kind: "last".into(), ..job.clone() });
        let batch = BatchTemplate { jobs: vec![job; 2], follow_up, callback: None, metadata: None };
        schedule.definition.template = Template::Batch { batch };
        schedule.last = Some(Submitted::Batch(BatchId::new()));
        let turn = schedule.turn(&finding("10:00:00", true)).expect("a turn");
        let (filling, jobs) = turn.batches().next().expect("a batch");
        let id = Submitted::Batch(filling.batch());
        assert_eq!((turn.cancel, turn.last()), (schedule.last, Some((at("10:00:00"), id))));
        assert_eq!((jobs.len(), turn.jobs().count(), turn.counts().fired), (2, 0, 1));
        assert!(jobs.iter().all(|job| job.payload.get() == r#"{"day": "2026-11-23"}"# && job.fired_by.is_some()));
        let crate::store::Target::New(new) = &filling.target else { panic!("it is a new one") };
        let plan = new.follow_up.as_ref().expect("a job follows");
        let expected = ("last", r#"{"day": "2026-11-23"}"#, None);
        assert_eq!((plan.kind.as_str(), plan.payload.get(), plan.run_at), expected);
    }

    #[test]
    fn a_turn_submits_for_fewer_fires_where_each_submits_much() {
        let mut schedule = schedule(Overlap::Allow);
        (schedule.definition.missed, schedule.definition.max_missed) = (Missed::All, 1000);
        let much = "2026-11-24T10:00:00Z".parse().expect("a time");
        let fires = |schedule: &Schedule| {
            let finding = Finding { now: much, last_runs: false, oldest_waiting: None };
            let turn = schedule.turn(&finding).expect("a turn");
            assert!(turn.next_at.is_some_and(|next_at| next_at < much), "the rest is still due");
            turn.counts().caught_up
        };
        assert_eq!(fires(&schedule), 100);
        let Template::Job(job) = schedule.definition.template.clone() else { panic!("it is a job") };
        let batch = BatchTemplate { jobs: vec![job; 1000], follow_up: None, callback: None, metadata: None };
        schedule.definition.template = Template::Batch { batch };
        assert_eq!(fires(&schedule), 10);
    }

    #[test]
    fn what_is_recorded_already_is_not_decided_again() {
        let mut schedule = schedule(Overlap::Queue);
        schedule.definition.missed = Missed::All;
        let mut turn = schedule.turn(&finding("10:20:00", true)).expect("a turn");
        assert_eq!((turn.records.len(), turn.waiting), (3, 3));
        turn.leave_out(&HashSet::from([at("10:10:00")]));
        assert_eq!((turn.records.len(), turn.waiting, turn.counts()), (2, 2, Counts::default()));
        let turn = schedule.turn(&finding("10:20:00", false)).expect("a turn");
        assert_eq!(turn.counts(), Counts { caught_up: 1, ..Counts::default() });
    }

    /// The clock was put back by a correction: what has been decided is not decided again.
    #[test]
    fn nothing_is_due_before_its_time() {
        let turn = schedule(Overlap::Skip).turn(&finding("09:59:59", false)).expect("a turn");
        assert!(turn.records.is_empty() && turn.next_at == Some(at("10:00:00")));
    }

    #[test]
    fn a_fire_that_waits_is_released_when_the_one_before_has_ended() {
        let mut schedule = schedule(Overlap::Queue);
        let turn = schedule.turn(&finding("10:00:00", true)).expect("a turn");
        assert_eq!((turn.waiting, turn.jobs().count(), turn.cancel), (1, 0, None));
        schedule.waiting = 1;
        schedule.next_at = turn.next_at;
        let oldest_waiting = Some((at("10:00:00"), Some(Reason::Overlap)));
        let waits = schedule.turn(&Finding { oldest_waiting, ..finding("10:04:00", true) }).expect("a turn");
        assert!(waits.released.is_none() && waits.records.is_empty() && waits.waiting == 1);
        let released = schedule.turn(&Finding { oldest_waiting, ..finding("10:10:00", false) }).expect("a turn");
        let (verdict, job) = released.released.as_ref().expect("released");
        assert_eq!((verdict.outcome, verdict.fire_at), (Outcome::Fired, at("10:00:00")));
        assert_eq!(released.last(), Some((at("10:00:00"), job.as_ref().expect("a job").id())));
        assert_eq!(released.records[0].0.outcome, Outcome::Waiting, "the next one waits in its turn");
        assert_eq!(released.waiting, 1);
    }

    #[test]
    fn the_previous_job_is_cancelled_only_while_it_runs() {
        let schedule = schedule(Overlap::CancelPrevious);
        let turn = schedule.turn(&finding("10:00:00", true)).expect("a turn");
        assert_eq!((turn.cancel, turn.jobs().count()), (schedule.last, 1));
        let turn = schedule.turn(&finding("10:00:00", false)).expect("a turn");
        assert_eq!((turn.cancel, turn.jobs().count()), (None, 1));
    }

    #[test]
    fn jitter_is_the_same_for_the_same_fire_and_spread_over_all() {
        let schedule = schedule(Overlap::Skip);
        let jitter = |minute: i64| {
            let fire_at = at("10:00:00") + chrono::TimeDelta::minutes(minute);
            schedule.definition.jitter(schedule.id, fire_at).as_secs_f64()
        };
        let jitters: Vec<f64> = (0..1000).map(jitter).collect();
        assert_eq!(jitters, (0..1000).map(jitter).collect::<Vec<_>>());
        assert!(jitters.iter().all(|jitter| (0.0..=30.0).contains(jitter)));
        let mean = jitters.iter().sum::<f64>() / 1000.0;
        assert!((13.0..17.0).contains(&mean), "{mean}");
    }
}
