//! `offload submit --batch`: a file of jobs, sent again under its key until it is known to be accepted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use offload_common::clock;
use offload_common::job::BatchId;

use super::super::client;
use super::{print, wait};
use crate::cli::SubmitArgs;
use crate::client::{Answer, BatchView, Client};
use crate::exit::Exit;
use crate::output;

/// The server may be away for this long; and the pause before it is asked again.
const OUTAGE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Submits the file; with `--wait`, waits for the batch.
pub(in crate::commands) async fn submit(args: SubmitArgs, path: PathBuf) -> anyhow::Result<Exit> {
    let client = client(&args.client.server)?;
    // Without a key of its own the command can repeat what it sent, and nobody else can.
    let key = args.idempotency_key.unwrap_or_else(|| BatchId::new().to_string());
    let batch = send(&client, &path, &key, args.partial).await?;
    if batch.value.refused > 0 {
        let text = format!("{} jobs were refused; --json shows why", batch.value.refused);
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("offload: {text}\n").as_bytes());
    }
    let Some(limit) = args.wait else {
        if args.client.json {
            print(&args.client, &batch)?;
        } else {
            output::line(format_args!("{}  {} jobs", batch.value.id, batch.value.total))?;
        }
        return Ok(Exit::Success);
    };
    wait(&client, &args.client, batch.value.id, limit.map(Duration::from_secs)).await
}

async fn send(client: &Client, path: &Path, key: &str, partial: bool) -> anyhow::Result<Answer<BatchView>> {
    let unreadable = || format!("the file {} cannot be read", path.display());
    let bytes = tokio::fs::metadata(path).await.with_context(unreadable)?.len();
    let style = ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(bytes).with_style(style);
    let begun = clock::instant();
    loop {
        bar.set_position(0);
        let shown = bar.clone();
        let sent =
            client.submit_batch(path, key, partial, move |bytes| shown.inc(bytes)).await.with_context(unreadable)?;
        match sent {
            Err(error) if error.is_in_flight() || error.is_unavailable() && begun.elapsed() < OUTAGE => {
                bar.set_message("the server did not answer; sending again");
                tokio::time::sleep(PAUSE).await;
            }
            sent => {
                bar.finish_and_clear();
                return sent.with_context(|| format!("submitting {} under the key {key}", path.display()));
            }
        }
    }
}
