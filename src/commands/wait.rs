//! `offload wait`: until jobs are final. Its exit code says what became of them.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use offload_common::job::State;

use super::{about, batch, client, print_job};
use crate::cli::WaitArgs;
use crate::client::{Patience, Waited};
use crate::exit::Exit;

/// How many jobs are waited for at the same time.
const AT_ONCE: usize = 32;

/// Waits, and prints each job as it becomes final.
pub(crate) async fn run(args: WaitArgs) -> anyhow::Result<Exit> {
    let client = client(&args.client.server)?;
    if let Some(batch) = args.batch {
        return batch::wait(&client, &args.client, batch, args.timeout.map(Duration::from_secs)).await;
    }
    let patience = Patience::of(args.timeout.map(Duration::from_secs));
    let waits = args.ids.iter().map(|id| {
        let client = client.clone();
        async move { client.wait(*id, patience).await.map_err(about(*id)) }
    });
    let mut waiting = stream::iter(waits).buffer_unordered(AT_ONCE);
    let mut exits = Vec::new();
    while let Some(waited) = waiting.next().await {
        let (Waited::Final(job) | Waited::TimedOut(job)) = waited?;
        print_job(&args.client, &job)?;
        exits.push(exit(job.value.state));
    }
    Ok(worst(exits))
}

/// The code for a job that was waited for.
pub(super) fn exit(state: State) -> Exit {
    match state {
        State::Succeeded => Exit::Success,
        State::Failed => Exit::JobFailed,
        State::Cancelled => Exit::JobCancelled,
        State::Scheduled | State::Queued | State::Running => Exit::TimedOut,
    }
}

/// A failure outweighs a cancel, which outweighs running out of time.
fn worst(exits: Vec<Exit>) -> Exit {
    let order = [Exit::JobFailed, Exit::JobCancelled, Exit::TimedOut];
    order.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_stands_for_many_jobs() {
        let of = |states: &[State]| worst(states.iter().copied().map(exit).collect());
        assert_eq!(of(&[State::Succeeded, State::Succeeded]), Exit::Success);
        assert_eq!(of(&[State::Running, State::Cancelled]), Exit::JobCancelled);
        assert_eq!(of(&[State::Cancelled, State::Queued, State::Failed]), Exit::JobFailed);
        assert_eq!(of(&[State::Succeeded, State::Scheduled]), Exit::TimedOut);
    }
}
