//! What handlers noted: which process started which job, and which starts came to an end.

use std::collections::{HashMap, HashSet};

use crate::support::Fleet;

/// The starts of a fleet so far.
pub(crate) struct Starts {
    /// Each with its job and its process.
    started: Vec<(String, u32)>,
    ended: HashMap<(String, u32), usize>,
}

impl Starts {
    /// Reads them.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let mut starts = Self { started: Vec::new(), ended: HashMap::new() };
        for line in fleet.starts().lines() {
            let mut words = line.split(' ');
            let (what, job, _attempt, process) = (words.next(), words.next(), words.next(), words.next());
            // The last line may be half-written.
            let Some((job, process)) = job.zip(process.and_then(|text| text.parse().ok())) else { continue };
            let start = (job.to_owned(), process);
            match what {
                Some("start") => starts.started.push(start),
                _ => *starts.ended.entry(start).or_default() += 1,
            }
        }
        starts
    }

    /// The jobs that a process started and did not see the end of.
    pub(crate) fn cut_short(&self, process: u32) -> HashSet<String> {
        let mut open: HashMap<&str, usize> = HashMap::new();
        for (job, _) in self.started.iter().filter(|(_, of)| *of == process) {
            *open.entry(job).or_default() += 1;
        }
        let still = |(job, starts): (&str, usize)| {
            let ends = self.ended.get(&(job.to_owned(), process)).copied().unwrap_or(0);
            (starts > ends).then(|| job.to_owned())
        };
        open.into_iter().filter_map(still).collect()
    }

    /// The jobs that any other process has started.
    pub(crate) fn elsewhere(&self, process: u32) -> HashSet<&str> {
        self.started.iter().filter(|(_, by)| *by != process).map(|(job, _)| job.as_str()).collect()
    }
}
