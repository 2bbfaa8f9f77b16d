//! After the faults: everything comes to rest, and nothing is left behind.

use std::time::Duration;

use offload_common::testing::{eventually, within};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::inject::World;
use crate::support::{Node, Role};

/// Every job is final this long after the last fault. Far longer than it takes: what goes wrong here goes wrong for ever.
const FINAL_WITHIN: Duration = Duration::from_secs(120);

/// Then nothing runs, waits, or lies in a queue.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// A process's connections at most: to PostgreSQL as `database.max_connections` says, to RabbitMQ one
/// to publish and one to consume.
const DATABASE_CONNECTIONS: usize = 8;
const BROKER_CONNECTIONS: usize = 2;

/// Threads besides those that every process has from its start: they come and go with blocking work.
const SPARE_THREADS: u64 = 8;

const UNFINISHED: &str =
    "SELECT id::text FROM offload.jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled') LIMIT 5";

/// What the processes of a fleet need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// To RabbitMQ, all together.
    connections: u64,
    channels: u64,
    /// The most of one process.
    threads: u64,
}

impl World {
    /// Waits until every job is final.
    pub(crate) async fn all_final(&self) {
        let mut left = Vec::new();
        let all = within(FINAL_WITHIN, async || {
            left = unfinished(&self.fleet.database_url).await.ok()?;
            left.is_empty().then_some(())
        });
        if all.await.is_none() {
            self.journal
                .finding(format!("not final {FINAL_WITHIN:?} after the last fault, such as {}", left.join(", ")));
        }
    }

    /// Waits until nothing is left to do anywhere, and until what was needed for it has been let go of.
    pub(crate) async fn all_quiet(&self, at_start: Footprint) {
        let mut trouble = String::new();
        let quiet = within(QUIET_WITHIN, async || {
            match self.trouble(at_start).await {
                Some(what) => trouble = what,
                None => return Some(()),
            }
            None
        });
        if quiet.await.is_none() {
            self.journal.finding(format!("{QUIET_WITHIN:?} after the last job, {trouble}"));
        }
    }

    async fn trouble(&self, at_start: Footprint) -> Option<String> {
        for node in self.fleet.nodes() {
            if let Some(what) = trouble(node, at_start.threads).await {
                return Some(format!("{} {what}", node.name()));
            }
        }
        let rabbitmq = self.fleet.site.rabbitmq().read().await;
        let depths = rabbitmq.depths(&self.fleet.name).await;
        if let Some(full) = depths.iter().find(|queue| queue.messages > 0) {
            return Some(format!("{} messages are in {}", full.messages, full.name));
        }
        let (connections, channels) = rabbitmq.connections_and_channels().await;
        let much = channels > at_start.channels || connections > at_start.connections;
        much.then(|| format!("RabbitMQ has {connections} connections with {channels} channels, and had {at_start:?}"))
    }

    /// What the processes need while nothing happens, once all of them are there.
    pub(crate) async fn footprint(&self) -> Footprint {
        let rabbitmq = self.fleet.site.rabbitmq().read().await;
        let mut last = None;
        let (connections, channels) = eventually("every process is there, and has what it needs", async || {
            let now = rabbitmq.connections_and_channels().await;
            let is_whole = now.0 == (BROKER_CONNECTIONS * self.fleet.nodes().len()) as u64;
            (last.replace(now) == Some(now) && is_whole).then_some(now)
        })
        .await;
        let mut threads = 0;
        for node in self.fleet.nodes() {
            threads = threads.max(threads_of(node).await.unwrap_or_default());
        }
        Footprint { connections, channels, threads }
    }
}

async fn trouble(node: &Node, at_start: u64) -> Option<String> {
    let ready = readiness(node).await;
    let Some((is_ready, state)) = ready else { return Some("does not answer".into()) };
    let busy = node.role == Role::Worker && (state["running"] != 0 || state["waiting"] != 0);
    if !is_ready || busy {
        return Some(format!("is not at rest: {state}"));
    }
    let (database, broker) = (node.database.connections(), node.broker.connections());
    if database > DATABASE_CONNECTIONS || broker != BROKER_CONNECTIONS {
        return Some(format!("has {database} connections to PostgreSQL and {broker} to RabbitMQ"));
    }
    let threads = threads_of(node).await.unwrap_or_default();
    (threads > at_start + SPARE_THREADS).then(|| format!("has {threads} threads, and had {at_start} at the start"))
}

async fn readiness(node: &Node) -> Option<(bool, Value)> {
    let answer = reqwest::get(format!("{}/readyz", node.address()?)).await.ok()?;
    let is_ready = answer.status().is_success();
    Some((is_ready, answer.json().await.unwrap_or_default()))
}

/// Only Linux tells.
async fn threads_of(node: &Node) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.life().await.id())).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok())
}

async fn unfinished(url: &str) -> sqlx::Result<Vec<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let left = sqlx::query_scalar(UNFINISHED).fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(left)
}
