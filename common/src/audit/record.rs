//! What an audit saw, for the next one to compare with: a text file of one line per job.
//!
//! Its size is bounded. Of more than [`MOST_JOBS`] jobs it keeps an even sample, by the random part of their ids, so that
//! it is the same jobs that are seen again and again while others come and go.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::job::{Epoch, JobId, State};

/// The jobs that a record keeps: 8 MB of text at most.
pub(super) const MOST_JOBS: usize = 100_000;

const TITLE: &str = "offload verify 1";

/// What an audit saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// When, by the store's clock; `None` for a record of nothing.
    pub(super) at: Option<DateTime<Utc>>,
    jobs: BTreeMap<(u32, JobId), Stand>,
}

/// Where a job stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) state: State,
    pub(super) epoch: Epoch,
    pub(super) finished_at: Option<DateTime<Utc>>,
}

/// The place of a job in the order that the sample is cut by.
fn place(id: JobId) -> (u32, JobId) {
    // The last 32 bits of a UUIDv7 are random.
    (id.0.as_u128() as u32, id)
}

impl Record {
    pub(super) fn insert(&mut self, id: JobId, stand: Stand) {
        self.jobs.insert(place(id), stand);
        if self.jobs.len() > MOST_JOBS {
            self.jobs.pop_last();
        }
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Stand> {
        self.jobs.get(&place(id))
    }

    /// The jobs that it keeps.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (JobId, Stand)> {
        self.jobs.iter().map(|((_, id), stand)| (*id, *stand))
    }

    /// How many jobs it keeps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether it keeps none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |at: Option<DateTime<Utc>>| at.map_or("-".to_owned(), |at| at.timestamp_micros().to_string());
        writeln!(f, "{TITLE} {}", micros(self.at))?;
        for (id, Stand { state, epoch, finished_at }) in self.jobs() {
            writeln!(f, "{id} {epoch} {state} {}", micros(finished_at))?;
        }
        Ok(())
    }
}

/// The text is not a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not one that `offload verify` wrote; remove the file to begin a new record")]
pub struct BadRecord(usize);

impl FromStr for Record {
    type Err = BadRecord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let micros = |text: &str| match text {
            "-" => Some(None),
            text => text.parse().ok().and_then(DateTime::from_timestamp_micros).map(Some),
        };
        let mut lines = text.lines();
        let title = lines.next().and_then(|line| line.strip_prefix(TITLE)?.strip_prefix(' '));
        let mut record = Self { at: title.and_then(micros).ok_or(BadRecord(1))?, jobs: BTreeMap::new() };
        for (n, line) in lines.enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            let job = || {
                let [id, epoch, state, finished_at] = words[..] else { return None };
                let stand =
                    Stand { state: state.parse().ok()?, epoch: epoch.parse().ok()?, finished_at: micros(finished_at)? };
                Some((id.parse().ok()?, stand))
            };
            let (id, stand) = job().ok_or(BadRecord(n + 2))?;
            record.insert(id, stand);
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn stand(state: State, epoch: Epoch) -> Stand {
        Stand { state, epoch, finished_at: state.is_final().then(clock::now) }
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        let mut record = Record { at: Some(clock::now()), ..Record::default() };
        for (epoch, state) in (1..).zip(State::ALL) {
            record.insert(JobId::new(), stand(state, epoch));
        }
        assert_eq!(record.to_string().parse(), Ok(record));
        assert_eq!(Record::default().to_string().parse(), Ok(Record::default()));
    }

    #[test]
    fn what_is_no_record_is_named_by_its_line() {
        let id = JobId::new();
        for (text, line) in [
            (String::new(), 1),
            ("offload verify 2 -\n".to_owned(), 1),
            ("offload verify 1\n".to_owned(), 1),
            (format!("offload verify 1 5\n{id} 2 queued -\n{id} 2 lost -\n"), 3),
            (format!("offload verify 1 5\n{id} 2 queued\n"), 2),
            (format!("offload verify 1 5\n{id} x queued -\n"), 2),
        ] {
            assert_eq!(text.parse::<Record>(), Err(BadRecord(line)), "{text:?}");
        }
    }

    #[test]
    fn of_many_jobs_it_keeps_an_even_sample_that_stays() {
        let ids: Vec<JobId> = (0..MOST_JOBS + 5000).map(|_| JobId::new()).collect();
        let kept = |ids: &[JobId]| {
            let mut record = Record::default();
            ids.iter().for_each(|id| record.insert(*id, stand(State::Queued, 1)));
            record
        };
        let (all, later) = (kept(&ids), kept(&ids[2500..]));
        assert_eq!((all.len(), later.len()), (MOST_JOBS, MOST_JOBS));
        let later: std::collections::HashSet<JobId> = later.jobs().map(|(id, _)| id).collect();
        let gone = &ids[..2500];
        assert!(all.jobs().all(|(id, _)| later.contains(&id) || gone.contains(&id)), "it is the same jobs");
        let of_the_last = all.jobs().filter(|(id, _)| *id > ids[MOST_JOBS]).count();
        assert!((4000..5000).contains(&of_the_last), "about as many of the last 5,000 as of the others: {of_the_last}");
    }
}
