//! `offload-bench`: what Offload does on this machine, beside the least that its parts have to do.
//!
//! It makes a database and queues of its own on the servers that it is given, starts `offload api` and `offload worker`
//! as separate processes on them, and removes everything at the end. This binary is Offload as well: the processes that it
//! starts are itself, unless another program is named.

mod cpu;
mod figures;
mod floor;
mod http;
mod load;
mod options;
mod peer;
mod process;
mod report;
mod rows;
mod scenarios;
mod site;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use offload_common::clock;

use crate::figures::Sample;
use crate::options::Options;
use crate::scenarios::Case;

fn main() -> ExitCode {
    let first = std::env::args().nth(1);
    if matches!(first.as_deref(), Some("api" | "worker" | "migrate")) {
        return offload::Program::new().run();
    }
    // Answered for `--help` and wrong usage, too.
    let ran = match first.as_deref() {
        Some("floor") => run(floor::http::serve()),
        _ => run(bench(Options::parse())),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offload-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Runs every wanted case in turn, round after round, so that what the machine does meanwhile happens to all of them.
async fn bench(options: Options) -> anyhow::Result<()> {
    options.check()?;
    let measuring = async {
        let mut samples = Vec::new();
        for round in 1..=options.rounds {
            for &case in &options.cases {
                let begun = clock::instant();
                measure(&options, round, case, &mut samples).await.with_context(|| format!("{case:?}"))?;
                eprintln!("round {round} of {}: {case:?} took {:.1} s", options.rounds, begun.elapsed().as_secs_f64());
            }
        }
        anyhow::Ok(samples)
    };
    let samples = tokio::select! {
        samples = measuring => samples?,
        _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted; databases called offload_bench_… may be left"),
    };
    report::print(&samples)?;
    match &options.json {
        Some(file) => report::write(file, &samples),
        None => Ok(()),
    }
}

/// Everybody's figures for one case, one after the other.
async fn measure(options: &Options, round: u32, case: Case, samples: &mut Vec<Sample>) -> anyhow::Result<()> {
    let mut add = |subject: &str, figures| {
        samples.push(Sample { round, case, subject: subject.to_owned(), figures });
    };
    if options.floor
        && let Some(figures) = floor::measure(options, case).await.context("the floor")?
    {
        add("floor", figures);
    }
    for (subject, program) in options.programs()? {
        add(&subject, scenarios::measure(options, &program, case).await.context(subject.clone())?);
    }
    for peer in options.peers.iter().filter(|peer| peer.case == case) {
        add(&peer.name, peer.measure().await.with_context(|| peer.name.clone())?);
    }
    Ok(())
}
