//! Making a schedule, and what changes of it do to its fires.

use chrono::{DateTime, SubsecRound, Utc};

use super::model::{Counts, Definition, Schedule};
use super::timing::BadTiming;
use crate::job::ScheduleId;

/// What a client does to a schedule.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is called and does this from now on. Boxed: the others say nothing.
    Define(String, Box<Definition>),
    /// It does not fire until it is resumed.
    Pause,
    /// It fires again, from its next time on: what would have fired meanwhile was not missed.
    Resume,
}

impl Schedule {
    /// A new schedule. Whole seconds are what its intervals are counted from, so that every fire is at one.
    ///
    /// # Errors
    /// [`BadTiming`] where the pattern or the zone is none.
    pub fn new(
        id: ScheduleId,
        tenant: String,
        name: String,
        definition: Definition,
        now: DateTime<Utc>,
    ) -> Result<Self, BadTiming> {
        let anchor = now.trunc_subsecs(0);
        let next_at = definition.timing(anchor)?.after(now).map(|fire| fire.at);
        Ok(Self {
            id,
            tenant,
            name,
            definition,
            version: 1,
            paused: false,
            anchor,
            next_at,
            last_fire_at: None,
            last: None,
            waiting: 0,
            created_at: now,
            counts: Counts::default(),
            trouble: None,
            updated_at: now,
        })
    }

    /// The schedule after a change. Fires that are due and not decided about stay so, unless the change is about when it
    /// fires.
    ///
    /// # Errors
    /// [`BadTiming`] where the pattern or the zone is none.
    pub fn changed(&self, change: &Change, now: DateTime<Utc>) -> Result<Self, BadTiming> {
        let mut after = Self { version: self.version + 1, updated_at: now, trouble: None, ..self.clone() };
        let retimed = match change {
            Change::Define(name, definition) => {
                after.name.clone_from(name);
                after.definition = (**definition).clone();
                if definition.recurrence != self.definition.recurrence {
                    after.anchor = now.trunc_subsecs(0);
                }
                !definition.fires_like(&self.definition)
            }
            Change::Pause => {
                after.paused = true;
                true
            }
            Change::Resume => {
                after.paused = false;
                self.paused
            }
        };
        let timing = after.definition.timing(after.anchor)?;
        if retimed {
            after.next_at = Some(now).filter(|_| !after.paused).and_then(|now| Some(timing.after(now)?.at));
        }
        Ok(after)
    }
}

impl Definition {
    fn fires_like(&self, other: &Self) -> bool {
        let times = |d: &Self| (d.recurrence.clone(), d.time_zone.clone(), d.starts_at, d.ends_at);
        times(self) == times(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Overlap, Recurrence};
    use crate::testing::factory;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2026-11-23T{time}Z").parse().expect("a time")
    }

    fn every(seconds: u64) -> Definition {
        Definition { recurrence: Recurrence::EverySeconds(seconds), ..factory::definition() }
    }

    fn made(definition: Definition) -> Schedule {
        Schedule::new(ScheduleId::new(), "t".into(), "n".into(), definition, at("10:00:00.7")).expect("a schedule")
    }

    fn defined(before: &Schedule, definition: Definition, now: &str) -> Schedule {
        before.changed(&Change::Define("m".into(), Box::new(definition)), at(now)).expect("a schedule")
    }

    #[test]
    fn an_interval_is_counted_from_the_second_that_it_was_made_in() {
        let schedule = made(every(60));
        assert_eq!((schedule.version, schedule.next_at), (1, Some(at("10:01:00"))));
    }

    #[test]
    fn only_a_change_of_the_times_moves_the_next_fire() {
        let before = made(every(60));
        let after = defined(&before, Definition { overlap: Overlap::Allow, ..every(60) }, "10:05:00.2");
        assert_eq!((after.version, after.name.as_str(), after.next_at), (2, "m", Some(at("10:01:00"))), "still due");
        let after = defined(&before, every(30), "10:05:00.2");
        assert_eq!(after.next_at, Some(at("10:05:30")));
        let shorter = Definition { ends_at: Some(at("10:02:00")), ..every(60) };
        assert_eq!(defined(&before, shorter, "10:05:00.2").next_at, None);
    }

    #[test]
    fn what_a_pause_covers_was_not_missed() {
        let before = made(every(60));
        let paused = before.changed(&Change::Pause, at("10:00:30")).expect("a schedule");
        assert_eq!((paused.paused, paused.next_at), (true, None));
        let redefined = defined(&paused, every(30), "10:00:40");
        assert_eq!((redefined.paused, redefined.next_at), (true, None), "it stays paused");
        let resumed = paused.changed(&Change::Resume, at("11:00:30")).expect("a schedule");
        assert_eq!((resumed.paused, resumed.next_at), (false, Some(at("11:01:00"))));
        let again = before.changed(&Change::Resume, at("11:00:30")).expect("a schedule");
        assert_eq!(again.next_at, Some(at("10:01:00")), "what runs is not resumed: its fires were missed");
    }
}
