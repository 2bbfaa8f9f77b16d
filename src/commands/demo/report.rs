//! The table of results, and the totals.

use std::path::Path;
use std::time::Duration;
use std::{io, iter};

use chrono::{DateTime, Utc};
use offload_common::job::State;

use super::outputs::Saved;
use crate::client::JobView;
use crate::output::{Table, line, printable};

/// A job that came to an end, and what was written of it.
pub(super) struct Outcome {
    /// What the demo calls it.
    pub(super) name: String,
    /// The final job.
    pub(super) job: JobView,
    /// Its output files.
    pub(super) saved: Vec<Saved>,
}

impl Outcome {
    fn succeeded(&self) -> bool {
        self.job.state == State::Succeeded
    }

    fn waited(&self) -> Option<Duration> {
        between(self.job.created_at, self.job.started_at?)
    }

    fn ran(&self) -> Option<Duration> {
        between(self.job.started_at?, self.job.finished_at?)
    }
}

fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Duration> {
    (to - from).to_std().ok()
}

/// Prints a row per job (the set of thumbnails is one row, with medians), what went wrong, and the totals. Answers
/// whether every job succeeded.
pub(super) fn print(singles: &[Outcome], set: &[Outcome], set_folder: &Path, took: Duration) -> io::Result<bool> {
    let mut table = Table::new(["JOB", "KIND", "STATE", "WAITED", "RAN", "OUTPUT"]);
    for outcome in singles {
        let mut files = outcome.saved.iter().map(|saved| saved.path.display().to_string());
        let first = files.next().unwrap_or_else(|| "-".to_owned());
        let job = &outcome.job;
        let (waited, ran) = (shown(outcome.waited()), shown(outcome.ran()));
        table.row([outcome.name.clone(), job.kind.clone(), job.state.to_string(), waited, ran, first]);
        for file in files {
            table.row(iter::repeat_n(String::new(), 5).chain([file]));
        }
    }
    if let Some(first) = set.first() {
        let done = set.iter().filter(|outcome| outcome.succeeded()).count();
        let state = if done == set.len() { "succeeded".to_owned() } else { format!("{done} succeeded") };
        let waited = shown(median(set.iter().filter_map(Outcome::waited).collect()));
        let ran = shown(median(set.iter().filter_map(Outcome::ran).collect()));
        let name = format!("{} × {}", set.len(), super::work::SET);
        table.row([name, first.job.kind.clone(), state, waited, ran, format!("{}/", set_folder.display())]);
    }
    line("")?;
    table.print()?;
    let all = || singles.iter().chain(set);
    for outcome in all().filter(|outcome| !outcome.succeeded()) {
        let error = outcome.job.error.as_ref();
        let why = error.map_or_else(String::new, |error| format!(": {}: {}", error.code, error.message));
        line(format_args!("{} {} {}{}", outcome.name, outcome.job.id, outcome.job.state, printable(&why)))?;
    }
    let (jobs, succeeded) = (all().count(), all().filter(|outcome| outcome.succeeded()).count());
    let files: Vec<&Saved> = all().flat_map(|outcome| &outcome.saved).collect();
    let megabytes = files.iter().map(|saved| saved.bytes).sum::<u64>() as f64 / 1e6;
    let seconds = took.as_secs_f64();
    line("")?;
    line(format_args!(
        "{succeeded} of {jobs} jobs succeeded in {seconds:.1} s ({:.0} jobs/s); {} output files, {megabytes:.1} MB",
        jobs as f64 / seconds,
        files.len()
    ))?;
    Ok(succeeded == jobs)
}

fn median(mut durations: Vec<Duration>) -> Option<Duration> {
    durations.sort();
    durations.get(durations.len() / 2).copied()
}

fn shown(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "-".to_owned(), |duration| format!("{:.0} ms", duration.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let of = |millis: &[u64]| median(millis.iter().copied().map(Duration::from_millis).collect());
        assert_eq!(of(&[]), None);
        assert_eq!(shown(of(&[30, 10, 20])), "20 ms");
        assert_eq!(shown(None), "-");
    }
}
