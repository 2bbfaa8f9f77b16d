//! `offload submit`: one job, from the command line.

pub(super) mod payload;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{batch, client, print_job, wait};
use crate::cli::SubmitArgs;
use crate::client::{Client, Patience, Submission, Waited};
use crate::exit::{Exit, UsageError};
use crate::output;

/// Submits; with `--wait`, prints what the job came to, and its exit code says so.
pub(crate) async fn run(mut args: SubmitArgs) -> anyhow::Result<Exit> {
    if let Some(file) = args.batch.take() {
        return batch::submit(args, file).await;
    }
    let mut payload = payload::read(&args.payload)?;
    let files = args.files.iter().map(|file| named(file)).collect::<Result<Vec<_>, _>>()?;
    let client = client(&args.client.server)?;
    for (field, path) in files {
        let id = upload(&client, path).await?;
        payload = payload::with_file(&payload, field, id)?;
    }
    let submission = Submission {
        queue: args.queue,
        priority: args.priority,
        run_at: args.run_at,
        delay_seconds: args.delay,
        max_attempts: args.max_attempts,
        timeout_seconds: args.timeout,
        tags: args.tags,
        unique_key: args.unique_key,
        on_conflict: args.on_conflict,
        after: args.after,
        after_policy: args.after_policy,
        ..Submission::new(&args.kind.unwrap_or_default(), payload)
    };
    let job = client.submit(&submission, args.idempotency_key.as_deref()).await?;
    let Some(limit) = args.wait else {
        if args.client.json {
            output::line(job.raw.get())?;
        } else {
            output::line(format_args!("{}  {}", job.value.id, job.value.state))?;
        }
        return Ok(Exit::Success);
    };
    let patience = Patience::of(limit.map(Duration::from_secs));
    let (Waited::Final(job) | Waited::TimedOut(job)) = client.wait(job.value.id, patience).await?;
    print_job(&args.client, &job)?;
    Ok(wait::exit(job.value.state))
}

/// `FIELD=PATH`.
fn named(argument: &str) -> Result<(&str, &Path), UsageError> {
    let parts = argument.split_once('=').filter(|(field, path)| !field.is_empty() && !path.is_empty());
    let (field, path) = parts
        .ok_or_else(|| UsageError(format!("--file {argument}: expected FIELD=PATH, as in --file source=photo.jpg")))?;
    Ok((field, Path::new(path)))
}

async fn upload(client: &Client, path: &Path) -> anyhow::Result<offload_common::job::FileId> {
    let file = tokio::fs::File::open(path).await;
    let file = file.with_context(|| format!("the file {} cannot be read", path.display()))?;
    let uploaded = client.upload(content_type(path), file).await;
    Ok(uploaded.with_context(|| format!("uploading {}", path.display()))?.value.id)
}

/// By the name's ending, as the server keeps what it is told.
fn content_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "webp" => "image/webp",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "txt" => "text/plain",
        "pdf" => "application/pdf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_given_as_field_and_path() {
        let (field, path) = named("source=a=b.jpg").expect("both");
        assert_eq!((field, path), ("source", Path::new("a=b.jpg")));
        assert!(named("photo.jpg").is_err() && named("=x").is_err() && named("x=").is_err());
        assert_eq!(content_type(Path::new("A.JPG")), "image/jpeg");
        assert_eq!(content_type(Path::new("unknown")), "application/octet-stream");
    }
}
