//! Runs from seeds. `cargo test --test faults` runs one round of them, which meets every family of faults;
//! `OFFLOAD_FAULTS_SEED=S` repeats one, `OFFLOAD_FAULTS_RUNS=N` runs so many, from that seed or from 0, and
//! `OFFLOAD_FAULTS_JOBS=J` says how many at a time. scripts/faults is the convenient way.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::run::report::Report;
use crate::run::{self, ROUND};

/// Runs at a time, unless told.
const JOBS: u64 = 3;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

#[test]
fn whatever_fails_every_accepted_job_comes_to_its_one_end() {
    let (seed, runs) = (number("OFFLOAD_FAULTS_SEED"), number("OFFLOAD_FAULTS_RUNS"));
    let runs = runs.unwrap_or(if seed.is_some() { 1 } else { ROUND });
    let jobs = number("OFFLOAD_FAULTS_JOBS").unwrap_or(JOBS).clamp(1, runs);
    let first = seed.unwrap_or(0);
    let (seeds, report) = (Mutex::new(first..first + runs), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = seeds.lock().unwrap_or_else(PoisonError::into_inner).next() {
                    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                    let outcome = runtime.expect("a runtime").block_on(run::run(seed));
                    println!("{}", outcome.summary());
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    report.add(outcome);
                    write(&report);
                }
            });
        }
    });
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("\n{}", report.text());
    let failed = report.failed_seeds();
    assert!(failed.is_empty(), "failed with the seeds {failed:?}: OFFLOAD_FAULTS_SEED={} repeats one", failed[0]);
}

/// Writes down what the runs have come to so far, where that is wished.
fn write(report: &Report) {
    let Some(folder) = std::env::var_os("OFFLOAD_FAULTS_REPORT").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("the folder for reports can be made");
    std::fs::write(folder.join("report.txt"), report.text()).expect("written");
    std::fs::write(folder.join("report.json"), format!("{:#}\n", report.json())).expect("written");
}
