//! Rows whose columns contradict their state. The rules follow from what [`crate::job::transition::decide`] leads to and
//! from what the stores write with it.

use async_trait::async_trait;
use chrono::TimeDelta;

use super::{Check, Report};
use crate::job::State;
use crate::job::transition::MAX_LOSSES;
use crate::store::Result;
use crate::store::audit::{Audit, Row, Seen};

const ADVICE: &str = "no step of Offload leads to such a row: find out what else writes to the table of jobs, repair or \
                      cancel the job by hand, and report it if nothing does";

/// A database's clock may be put back between two statements; not by more than this.
const CLOCK_STEP: TimeDelta = TimeDelta::hours(1);

/// The check.
pub(super) struct Rows(Report);

impl Rows {
    pub(super) fn new() -> Self {
        Self(Report::new("rows", "jobs"))
    }
}

#[async_trait]
impl Check for Rows {
    async fn rows(&mut self, audit: &dyn Audit, page: &[Seen]) -> Result<()> {
        self.0.looked_at += page.len() as u64;
        let suspects: Vec<_> = page.iter().filter(|seen| !wrong(seen).is_empty()).map(|seen| seen.id).collect();
        if suspects.is_empty() {
            return Ok(());
        }
        for seen in audit.look(&suspects).await? {
            let wrong = wrong(&seen);
            if !wrong.is_empty() {
                self.0.find([seen.id], wrong.join("; "), ADVICE);
            }
        }
        Ok(())
    }

    async fn conclude(&mut self, _audit: &dyn Audit) -> Result<Report> {
        Ok(self.0.clone())
    }
}

fn wrong(seen: &Seen) -> Vec<String> {
    match &seen.row {
        Ok(row) => contradictions(row),
        Err(why) => vec![format!("the row cannot be read: {why}")],
    }
}

/// What in a row contradicts its state.
fn contradictions(row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    counts(row, &mut found);
    presence(row, &mut found);
    times(row, &mut found);
    found
}

fn counts(row: &Row, found: &mut Vec<String>) {
    let Row { state, epoch, attempt, max_attempts, losses, .. } = *row;
    let mut demand = |holds: bool, problem: String| found.extend((!holds).then_some(problem));
    let most_losses = i64::from(MAX_LOSSES);
    // Accepted with 1; a claim and an end each add one.
    let least_epoch = if state == State::Running || state.is_final() { 2 } else { 1 };
    demand(epoch >= least_epoch, format!("{state} at epoch {epoch}, which is at least {least_epoch} by then"));
    demand(max_attempts >= 1, format!("max_attempts is {max_attempts}"));
    demand((0..=max_attempts).contains(&attempt), format!("attempt {attempt} of at most {max_attempts}"));
    demand((0..=most_losses).contains(&losses), format!("{losses} lost workers of at most {most_losses}"));
    let ends_it = matches!(state, State::Failed | State::Cancelled);
    demand(losses != most_losses || ends_it, format!("{state} after {losses} lost workers, which end a job"));
    let waits = matches!(state, State::Scheduled | State::Queued);
    demand(!waits || attempt != max_attempts, format!("{state} with all of its {max_attempts} attempts spent"));
    demand(!waits || !row.cancel_requested, format!("{state} with a wish to cancel, which ends what does not run"));

    let ran = matches!(state, State::Running | State::Succeeded | State::Failed);
    demand(!ran || attempt != 0, format!("{state} without an attempt"));
    // Every attempt that was not handed back has failed, but for the one that runs, succeeded or was stopped.
    let unfailed = match state {
        State::Scheduled | State::Queued | State::Failed => 0..=0,
        State::Running | State::Succeeded => 1..=1,
        // One that never started may tell of a parent.
        State::Cancelled => -i64::from(attempt == 0)..=1,
    };
    match row.failures {
        Some(failures) => {
            let fits = unfailed.contains(&(attempt - failures));
            demand(fits, format!("{state} in attempt {attempt} with {failures} failed attempts in its history"));
            let has_error = failures > 0 && state != State::Succeeded;
            let (is, should) = if has_error { ("no error", "lists failures") } else { ("an error", "explains none") };
            demand(row.has_error == has_error, format!("{state} with {is}, while its history {should}"));
        }
        None => demand(false, "its history is not a list".to_owned()),
    }
}

fn presence(row: &Row, found: &mut Vec<String>) {
    let state = row.state;
    let mut demand = |holds: bool, problem: String| found.extend((!holds).then_some(problem));
    let ran = row.attempt > 0 || row.losses > 0;
    demand(!ran || row.worker.is_some(), format!("{state} after a run, without a worker"));
    demand(!ran || row.started_at.is_some(), format!("{state} after a run, without started_at"));
    demand(!(ran || state == State::Queued) || row.queued_at.is_some(), format!("{state} without queued_at"));
    // Whoever ends a run for a lost worker leaves another's nonce, or none.
    let named = matches!(state, State::Running | State::Succeeded);
    demand(!named || row.nonce.is_some(), format!("{state} without the nonce of its run"));
    let is_final = state.is_final();
    let (there, missing) = if is_final { ("without", "final") } else { ("with", "not final") };
    demand(row.finished_at.is_some() == is_final, format!("{state}, which is {missing}, {there} finished_at"));
    let succeeded = state == State::Succeeded;
    let there = if succeeded { "without" } else { "with" };
    demand(row.has_result == succeeded, format!("{state} {there} a result"));
}

fn times(row: &Row, found: &mut Vec<String>) {
    let moments = [
        ("created_at", Some(row.created_at)),
        ("queued_at", row.queued_at),
        ("started_at", row.started_at),
        ("finished_at", row.finished_at),
    ];
    for (name, at) in moments {
        if at.is_some_and(|at| at < row.created_at - CLOCK_STEP) {
            found.push(format!("{name} lies before created_at"));
        }
        if at.is_some_and(|at| at > row.read_at + CLOCK_STEP) {
            found.push(format!("{name} lies in the future"));
        }
    }
    if let (Some(started_at), Some(finished_at)) = (row.started_at, row.finished_at)
        && finished_at < started_at - CLOCK_STEP
    {
        found.push("finished_at lies before started_at".to_owned());
    }
}
