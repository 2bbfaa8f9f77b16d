//! How long the jobs of a worker that dies wait until they start elsewhere, with default settings.

use std::collections::HashSet;
use std::time::Duration;

use offload_common::clock;
use offload_common::testing::{eventually, within};
use rustix::process::Signal;
use serde_json::json;

use crate::client::Client;
use crate::distribution::{count, report};
use crate::starts::Starts;
use crate::support::{Fleet, FleetBuilder, Node, Site, pass};

/// Jobs that run at a time, of 48 slots: every worker has some, and the two that are left have room for all.
const JOBS: usize = 18;
/// Longer than anything here is waited for.
const LONG: f64 = 120.0;

async fn fleet() -> Fleet {
    FleetBuilder::new(1, 3).with("OFFLOAD_WORKER__SLOTS", 16).start(Site::take().await).await
}

/// `kill -9`, again and again: half of the jobs have been running for a while and are claimed, half have just started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_jobs_start_elsewhere() {
    let kills = count("OFFLOAD_ENDURANCE_KILLS", 100);
    let fleet = fleet().await;
    let (mut claimed, mut unclaimed) = (Vec::new(), Vec::new());
    for round in 0..kills {
        let victim = &fleet.workers()[round % 3];
        let (long, fresh) = settle(&fleet, victim).await;
        let mut life = victim.life().await;
        let process = life.id();
        life.kill().await;
        let killed = clock::instant();
        let cut_short = Starts::of(&fleet).cut_short(process);
        let mut waiting = cut_short.clone();
        eventually("every job of the killed worker starts elsewhere", async || {
            let now = killed.elapsed();
            let starts = Starts::of(&fleet);
            let elsewhere = starts.elsewhere(process);
            for job in waiting.extract_if(|job| elsewhere.contains(job.as_str())) {
                if long.contains(&job) { &mut claimed } else { &mut unclaimed }.push(now);
            }
            waiting.is_empty().then_some(())
        })
        .await;
        life.start(&[]).await;
        drop(life);
        clear(&fleet, long.iter().chain(&fresh)).await;
    }
    println!("{kills} kills of one of three workers, default settings:");
    report("  jobs that had been claimed", &claimed);
    report("  jobs that had just started", &unclaimed);
    report("  all", &[claimed, unclaimed].concat());
    fleet.end().await;
}

/// The host of a worker vanishes: its process stands still, and its connections stay open and silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_hosts_jobs_start_elsewhere() {
    let rounds = count("OFFLOAD_ENDURANCE_VANISHINGS", 5);
    let fleet = fleet().await;
    let mut times = Vec::new();
    for round in 0..rounds {
        let victim = &fleet.workers()[round % 3];
        let (long, fresh) = settle(&fleet, victim).await;
        let mut life = victim.life().await;
        let process = life.id();
        life.doom();
        life.signal(Signal::STOP);
        victim.database.stall();
        victim.broker.stall();
        let vanished = clock::instant();
        let mut waiting = Starts::of(&fleet).cut_short(process);
        let all = within(Duration::from_secs(90), async || {
            let now = vanished.elapsed();
            let starts = Starts::of(&fleet);
            let elsewhere = starts.elsewhere(process);
            times.extend(waiting.extract_if(|job| elsewhere.contains(job.as_str())).map(|_| now));
            waiting.is_empty().then_some(())
        });
        all.await.expect("every job starts elsewhere within 90 s");
        life.signal(Signal::KILL);
        life.ended().await;
        victim.database.restore();
        victim.broker.restore();
        life.start(&[]).await;
        drop(life);
        clear(&fleet, long.iter().chain(&fresh)).await;
    }
    println!("{rounds} hosts that vanished without a word, default settings:");
    report("  all", &times);
    fleet.end().await;
}

/// Has jobs running on every worker: some for long enough to be claimed, some that have just started. Answers both.
async fn settle(fleet: &Fleet, victim: &Node) -> (HashSet<String>, HashSet<String>) {
    let client = Client::of(fleet);
    eventually("all workers are live", async || (client.workers().await == 3).then_some(())).await;
    let mut long = HashSet::new();
    for _ in 0..JOBS / 2 {
        long.insert(client.submit("fault.ledger", json!({"seconds": LONG})).await);
    }
    for job in &long {
        eventually("a job is claimed", async || (client.job(job).await["state"] == "running").then_some(())).await;
    }
    let mut fresh = HashSet::new();
    for _ in 0..JOBS / 2 {
        fresh.insert(client.submit("fault.ledger", json!({"seconds": LONG})).await);
    }
    let process = victim.life().await.id();
    eventually("the victim has jobs of both sorts", async || {
        let here = Starts::of(fleet).cut_short(process);
        (!here.is_disjoint(&long) && !here.is_disjoint(&fresh)).then_some(())
    })
    .await;
    // Anywhere between two beats and between two passes of whoever is to notice.
    pass(Duration::from_millis(rand::random_range(0..400))).await;
    (long, fresh)
}

/// Ends what runs.
async fn clear(fleet: &Fleet, jobs: impl Iterator<Item = &String>) {
    let client = Client::of(fleet);
    let jobs: Vec<_> = jobs.collect();
    for job in &jobs {
        client.cancel(job).await;
    }
    for job in jobs {
        eventually("a cancelled job ends", async || (client.job(job).await["state"] == "cancelled").then_some(()))
            .await;
    }
}
