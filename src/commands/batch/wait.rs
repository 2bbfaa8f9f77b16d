//! `offload wait --batch`: until all jobs of a batch are final.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use offload_common::clock;
use offload_common::job::BatchId;

use super::print;
use crate::cli::ClientArgs;
use crate::client::{BatchView, Client};
use crate::exit::Exit;

/// Between two looks; and for how long the server may be away.
const PAUSE: Duration = Duration::from_millis(500);
const OUTAGE: Duration = Duration::from_secs(60);

/// Waits, prints the batch, and says by the exit code what became of it.
pub(in crate::commands) async fn wait(
    client: &Client,
    how: &ClientArgs,
    id: BatchId,
    limit: Option<Duration>,
) -> anyhow::Result<Exit> {
    let begun = clock::instant();
    let mut batch = client.batch(id).await?;
    let mut seen = clock::instant();
    let style = ProgressStyle::with_template("{bar:32} {pos}/{len} {msg}");
    let bar = ProgressBar::new(batch.value.total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while !batch.value.is_over() && limit.is_none_or(|limit| begun.elapsed() < limit) {
        bar.set_length(batch.value.total);
        bar.set_position(batch.value.ended());
        bar.set_message(batch.value.eta_seconds.map_or(String::new(), |left| format!("{left:.0} s left")));
        let left = limit.map_or(PAUSE, |limit| limit.saturating_sub(begun.elapsed()));
        tokio::time::sleep(PAUSE.min(left)).await;
        match client.batch(id).await {
            Ok(answer) => (batch, seen) = (answer, clock::instant()),
            Err(error) if error.is_unavailable() && seen.elapsed() < OUTAGE => {}
            Err(error) => return Err(error.into()),
        }
    }
    bar.finish_and_clear();
    print(how, &batch)?;
    Ok(exit(&batch.value))
}

fn exit(batch: &BatchView) -> Exit {
    match &batch.counts {
        _ if !batch.is_over() => Exit::TimedOut,
        counts if counts.failed > 0 => Exit::JobFailed,
        counts if counts.cancelled > 0 => Exit::JobCancelled,
        _ => Exit::Success,
    }
}
