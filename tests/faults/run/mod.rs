//! One run: from a seed to a verdict.

mod audit;
mod fault;
mod inject;
mod intake;
mod journal;
mod links;
mod load;
mod plan;
mod quiet;
mod receiver;
pub(crate) mod report;
mod verify;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use self::audit::{Audited, Books, Circumstances};
use self::inject::World;
use self::intake::Numbers;
use self::journal::Journal;
use self::links::Known;
use self::load::Load;
pub(crate) use self::plan::{Plan, ROUND};
use self::receiver::Receiver;
use crate::support::{Fleet, FleetBuilder, Site, Timeline, pass};

const APIS: usize = 2;
const WORKERS: usize = 3;

/// The load goes on for so long after the last fault.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) took: Duration,
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) audited: Audited,
    pub(crate) intake: Numbers,
    /// What is wrong; nothing if all is well.
    pub(crate) findings: Vec<String>,
    /// Where the plan and the processes' logs are, if something is.
    pub(crate) folder: Option<PathBuf>,
}

/// Runs what a seed says.
pub(crate) async fn run(seed: u64) -> Outcome {
    let plan = Plan::new(seed);
    let journal = Arc::new(Journal::new(Timeline::start()));
    let site = Site::take().await;
    journal.mark("the servers are up");
    let fleet = start(&plan, site).await;
    journal.mark("the processes listen");
    let receiver = Receiver::start().await;
    let load = Load::new(&fleet, journal.clone(), receiver.callback(), seed);
    let world = World { fleet, journal, load, receiver };
    let watched = CancellationToken::new();
    let watching = tokio::spawn(watch::run(world.fleet.database_url.clone(), world.journal.clone(), watched.clone()));
    tokio::select! {
        () = world.guard("the run", world.live(&plan)) => {}
        () = world.guard("the supervisor", world.supervise()) => {}
        () = world.guard("the auditor", world.keep_verifying()) => {}
    }
    watched.cancel();
    watching.await.expect("it does not panic");
    let (audited, intake) = judge(&world, &plan).await;
    end(world, plan, audited, intake).await
}

async fn start(plan: &Plan, site: Site) -> Fleet {
    let settings = &plan.settings;
    let mut builder = FleetBuilder::new(APIS, WORKERS)
        .with("OFFLOAD_WORKER__SLOTS", settings.slots)
        .with("OFFLOAD_WORKER__LAZY_CLAIM_SECONDS", settings.lazy_claim_seconds)
        .with("OFFLOAD_WORKER__ACK_AFTER_SECONDS", settings.ack_after_seconds)
        .with("OFFLOAD_BROKER__QUEUE_TYPE", settings.queue_type)
        .with("OFFLOAD_JOBS__WINDOW", settings.window)
        .with("OFFLOAD_JOBS__RETRY__FIRST_SECONDS", 0.2)
        .with("OFFLOAD_EGRESS_ALLOW", "127.0.0.0/8")
        .with("OFFLOAD_CALLBACKS__SECRETS", receiver::SECRET);
    if settings.short_times {
        builder = builder.short_times();
    }
    builder.start(site).await
}

impl World {
    /// Has jobs submitted, and every fault of the plan happen meanwhile; then waits until all is well again.
    async fn live(&self, plan: &Plan) {
        let footprint = self.footprint().await;
        let schedule = self.load.schedule().await;
        let stop = CancellationToken::new();
        let load = tokio::spawn(self.load.clone().run(plan.settings.rate, stop.clone()));
        let begun = self.journal.timeline.now();
        let faults = plan.faults.iter().enumerate().map(|(n, (at, fault))| {
            let random = StdRng::seed_from_u64(plan.seed.wrapping_mul(1000) + n as u64);
            self.guard("a fault", async move {
                self.journal.timeline.until(begun + *at).await;
                self.inject(fault.clone(), random).await;
            })
        });
        join_all(faults).await;
        pass(AFTERWARDS).await;
        self.journal.timeline.until(begun + plan::LOAD).await;
        stop.cancel();
        load.await.expect("the load does not panic");
        self.journal.mark("the load is over");
        self.load.settled().await;
        self.load.pause(&schedule).await;
        self.journal.mark("everything was accepted");
        self.all_final().await;
        self.journal.mark("every job is final");
        self.all_quiet(footprint).await;
        self.journal.mark("all is quiet");
        self.verify_at_the_end().await;
    }

    /// Does some work; a panic in it is a finding.
    async fn guard(&self, what: &str, work: impl Future<Output = ()>) {
        if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
            let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            self.journal.finding(format!("{what} panicked: {}", said.unwrap_or("it did not say why")));
        }
    }
}

async fn judge(world: &World, plan: &Plan) -> (Audited, Numbers) {
    let journal = &world.journal;
    let mut around = Circumstances {
        database_was_away: plan.faults.iter().any(|(_, fault)| fault.takes_the_database_away()),
        ..Circumstances::default()
    };
    for node in world.fleet.nodes() {
        let life = node.life().await;
        let (doomed, left) = life.doomed_and_left();
        around.doomed.extend(doomed);
        around.left.extend(left);
    }
    let promises = world.load.promises();
    let mut findings = audit::started_twice(&world.fleet.starts(), &promises);
    let audited = match Books::read(&world.fleet.database_url).await {
        Ok(books) => {
            let known = Known { promises: &promises, batches: &world.load.batches(), receiver: &world.receiver };
            let (audited, wrong) = books.audit(&known, &around);
            findings.extend(wrong);
            findings.extend(books.confirm(&world.load.sightings()));
            audited
        }
        Err(error) => {
            findings.push(format!("the database cannot be read: {error}"));
            Audited::default()
        }
    };
    let (numbers, wrong) = intake::judge(&world.load.attempts(), &journal.windows(), APIS);
    findings.extend(wrong);
    findings.into_iter().for_each(|what| journal.finding(what));
    (audited, numbers)
}

async fn end(world: World, plan: Plan, audited: Audited, intake: Numbers) -> Outcome {
    let World { fleet, journal, .. } = world;
    let (findings, counts, took) = (journal.findings(), journal.counts(), journal.timeline.now());
    let failed = !findings.is_empty();
    let folder = reports(failed).map(|reports| reports.join(format!("seed-{}", plan.seed)));
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).expect("the folder for reports can be made");
        fs::write(folder.join("run.txt"), describe(&plan, &journal, &findings)).expect("written");
    }
    match &folder {
        Some(folder) if failed => {
            fs::write(folder.join("starts.log"), fleet.starts()).expect("written");
            fleet.write_logs(folder).await;
        }
        _ => fleet.end().await,
    }
    Outcome { plan, took, counts, audited, intake, findings, folder }
}

/// The folder for reports: `OFFLOAD_FAULTS_REPORT`; else, for what `failed` alone, one among the system's temporary files.
fn reports(failed: bool) -> Option<PathBuf> {
    let given = std::env::var_os("OFFLOAD_FAULTS_REPORT").map(PathBuf::from);
    given.or_else(|| failed.then(|| std::env::temp_dir().join(format!("offload-faults-report.{}", std::process::id()))))
}

/// The whole story of a run, for people.
fn describe(plan: &Plan, journal: &Journal, findings: &[String]) -> String {
    let mut text = format!("seed {}\n{:#?}\n\nwhat was planned, in seconds of the load\n", plan.seed, plan.settings);
    for (at, fault) in &plan.faults {
        text += &format!("  {:6.2}  {fault:?}\n", at.as_secs_f64());
    }
    text += "\nwhat happened, in seconds of the run\n";
    for window in journal.windows() {
        let ended = window.ended.map_or("never".to_owned(), |ended| format!("{:.2}", ended.as_secs_f64()));
        text += &format!("  {:6.2} to {ended}  {}: {}\n", window.began.as_secs_f64(), window.family, window.what);
    }
    for (at, what) in journal.marks() {
        text += &format!("  {:6.2}  {what}\n", at.as_secs_f64());
    }
    text += "\nwhat is wrong\n";
    for finding in findings {
        text += &format!("  {finding}\n");
    }
    text
}

impl Outcome {
    /// A line for people.
    pub(crate) fn summary(&self) -> String {
        let Self { plan, took, audited, findings, .. } = self;
        let faults: Vec<_> = plan.faults.iter().map(|(_, fault)| fault.family()).collect();
        let verdict = match &self.folder {
            Some(folder) if !findings.is_empty() => format!("{} FINDINGS, see {}", findings.len(), folder.display()),
            _ => "well".to_owned(),
        };
        let (seed, took, accepted) = (plan.seed, took.as_secs_f64(), audited.accepted);
        format!("seed {seed}: {took:.1} s, {accepted} jobs, {} faults: {verdict} ({})", faults.len(), faults.join(", "))
    }
}
