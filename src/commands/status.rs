//! `offload status`: one job.

use offload_common::job::State;

use super::{client, print_job};
use crate::cli::StatusArgs;
use crate::client::JobView;
use crate::exit::Exit;
use crate::output::{line, printable};

/// Shows a job.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    let job = client(&args.client.server)?.job(args.id, None).await?;
    print_job(&args.client, &job)?;
    Ok(Exit::Success)
}

/// A job for people: what it is, where it stands, what it came to.
pub(super) fn describe(job: &JobView) -> std::io::Result<()> {
    line(format_args!("{}  {}  {}", job.id, printable(&job.kind), job.state))?;
    if let Some(progress) = job.progress.as_ref().filter(|_| job.state == State::Running) {
        let message = progress.message.as_deref().map(printable).unwrap_or_default();
        line(format_args!("  progress  {:.0} % {message}", progress.fraction * 100.0))?;
    }
    line(format_args!("  queue     {}", printable(&job.queue)))?;
    line(format_args!("  attempt   {} of at most {}", job.attempt, job.max_attempts))?;
    line(format_args!("  accepted  {}", job.created_at))?;
    if let Some(parents) = job.parents.as_ref().filter(|parents| parents.waiting > 0) {
        line(format_args!("  waits     for {} of {} jobs that it runs after", parents.waiting, parents.total))?;
    }
    if !job.state.is_final() && job.run_at > job.created_at {
        line(format_args!("  due       {}", job.run_at))?;
    }
    if let Some(started_at) = job.started_at {
        line(format_args!("  started   {started_at}"))?;
    }
    if let Some(finished_at) = job.finished_at {
        line(format_args!("  finished  {finished_at}"))?;
    }
    if let Some(error) = &job.error {
        let (code, message) = (printable(&error.code), printable(&error.message));
        line(format_args!("  error     {code}: {message} (attempt {})", error.attempt))?;
    }
    if let Some(result) = &job.result {
        line(format_args!("  result    {}", result.get()))?;
    }
    Ok(())
}
