//! `offload demo`: the embedded backend, and one job of each kind through its public HTTP API, on files that the program
//! carries.

mod outputs;
mod progress;
mod report;
mod samples;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures_util::{StreamExt, TryFutureExt, TryStreamExt, stream};
use offload_common::clock;
use offload_common::config::{Config, Role, Sources, load};
use offload_common::job::{FileId, State};

use self::progress::Progress;
use self::report::Outcome;
use self::work::Planned;
use crate::cli::DemoArgs;
use crate::client::{Answer, Client, JobView, Patience, Waited};
use crate::embedded::Embedded;
use crate::exit::Exit;
use crate::lifecycle::Stop;
use crate::{listen, output, telemetry};

/// Its own configuration; the user's is not looked at, so that it runs the same everywhere.
const CONFIG: &str = include_str!("demo.toml");
/// Requests at once.
const AT_ONCE: usize = 16;
/// How often a job's progress is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Runs the demo; exits with an error if any job did not succeed.
pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<Exit> {
    let progress = Progress::new();
    let folder = folder(args.data)?;
    let config = config(&folder)?;
    let writer = progress.log_writer();
    telemetry::start_on(&config.log, move || writer.clone())?;
    let stop = Stop::on_signals()?;
    let backend = Embedded::start(&config, &[], &stop).await?;
    let url = listen::url(backend.address);
    output::line(format_args!("Offload listens on {url}; this demo's data is in {}", folder.display()))?;
    let client = Client::new(&url, None)?;
    let outputs = folder.join("outputs");
    let shown = show(&client, &url, &outputs, args.images, &progress);
    let shown = stop.drain.run_until_cancelled(shown).await;
    if !matches!(shown, Some(Ok(_))) {
        // Nobody is left who cares for its jobs.
        stop.halt.cancel();
    } else if args.keep {
        output::line(format_args!("\nOffload stays up on {url} (documents: {url}/docs); Ctrl-C stops it"))?;
        stop.drain.cancelled().await;
    }
    stop.drain.cancel();
    backend.ended().await?;
    match shown.transpose()? {
        Some(true) => Ok(Exit::Success),
        Some(false) => Ok(Exit::Error),
        None => anyhow::bail!("interrupted"),
    }
}

/// A fresh folder unless one is named.
fn folder(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = named.unwrap_or_else(|| {
        let name = format!("demo-{}-{}", clock::now().format("%Y%m%d-%H%M%S"), std::process::id());
        Path::new(".offload").join(name)
    });
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made; choose another with --data", folder.display()))?;
    Ok(folder)
}

fn config(folder: &Path) -> anyhow::Result<Config> {
    let logging = std::env::vars().filter(|(name, _)| name == "OFFLOAD_LOG" || name.starts_with("OFFLOAD_LOG__"));
    let file = Some(("the demo's configuration".to_owned(), CONFIG.to_owned()));
    let sources = Sources { role: Role::Embedded, file, environment: logging.collect(), flags: Vec::new() };
    let mut config = load(&sources)?.config;
    config.server.listen = ([127, 0, 0, 1], 0).into();
    config.database.data = folder.to_owned();
    Ok(config)
}

/// Uploads, submits, waits, downloads, reports. Answers whether every job succeeded.
async fn show(client: &Client, url: &str, outputs: &Path, images: usize, progress: &Progress) -> anyhow::Result<bool> {
    let begun = clock::instant();
    let uploads = progress.counting("upload", images + 2);
    let photo = upload(client, samples::photo(0)).await?;
    uploads.one();
    let table = upload(client, samples::TABLE).await?;
    uploads.one();
    let photos: Vec<FileId> = stream::iter((0..images).map(samples::photo))
        .map(|sample| upload(client, sample).inspect_ok(|_| uploads.one()))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    uploads.over("done");

    let planned = work::one_of_each(photo, table, url)?;
    let singles = stream::iter(planned).map(|planned| follow(client, planned, outputs, progress)).buffered(AT_ONCE);
    let set_folder = outputs.join(work::SET);
    let bar = progress.counting(work::SET, images);
    let set = stream::iter(photos.into_iter().enumerate())
        .map(|(index, photo)| {
            let (bar, folder) = (&bar, &set_folder);
            async move {
                let planned = work::thumbnail(photo, index + 1)?;
                let outcome = finish(client, submit(client, &planned).await?, planned.name, folder).await?;
                bar.one();
                anyhow::Ok(outcome)
            }
        })
        .buffered(images.max(1));
    let (singles, set) = futures_util::try_join!(singles.try_collect::<Vec<_>>(), set.try_collect::<Vec<_>>())?;
    bar.over("done");
    Ok(report::print(&singles, &set, &set_folder, begun.elapsed())?)
}

async fn upload(client: &Client, sample: samples::Sample) -> anyhow::Result<FileId> {
    let uploaded = client.upload(sample.content_type, sample.content).await;
    Ok(uploaded.with_context(|| format!("uploading {}", sample.name))?.value.id)
}

async fn submit(client: &Client, planned: &Planned) -> anyhow::Result<Answer<JobView>> {
    client.submit(&planned.job, None).await.with_context(|| format!("submitting {}", planned.name))
}

/// Submits a job and shows its progress until it is final.
async fn follow(client: &Client, planned: Planned, outputs: &Path, progress: &Progress) -> anyhow::Result<Outcome> {
    let bar = progress.fraction(&planned.job.kind);
    let mut job = submit(client, &planned).await?;
    while !job.value.state.is_final() {
        if let Some(progress) = &job.value.progress {
            bar.at(progress.fraction, progress.message.as_deref().unwrap_or_default());
        }
        tokio::time::sleep(LOOK).await;
        job = client.job(job.value.id, None).await?;
    }
    bar.over(job.value.state.as_str());
    finish(client, job, planned.name, outputs).await
}

/// Waits for a job, and saves what it came to.
async fn finish(client: &Client, job: Answer<JobView>, name: String, folder: &Path) -> anyhow::Result<Outcome> {
    let (Waited::Final(job) | Waited::TimedOut(job)) = client.wait(job.value.id, Patience::of(None)).await?;
    let job = job.value;
    let saved =
        if job.state == State::Succeeded { outputs::save(client, &job, folder, &name).await? } else { Vec::new() };
    Ok(Outcome { name, job, saved })
}
