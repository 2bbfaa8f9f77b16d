//! Rows inserted by the batch, a confirmed message for each, rows completed by the batch, and acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use offload_common::clock;
use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{BATCH, QUEUE, complete, confirming, connect, id_of, insert, message, publish};
use crate::cpu::Cpu;
use crate::figures::Figures;
use crate::options::Options;
use crate::scenarios::payload;
use crate::site::Database;

const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;
/// Messages that are not confirmed yet, per producer.
const WINDOW: usize = 1_000;
/// How long a consumer waits for a batch to fill.
const GATHER: Duration = Duration::from_millis(5);

pub(super) async fn measure(options: &Options, database: &Database) -> anyhow::Result<Figures> {
    let batches = options.count(100_000.0).div_ceil(BATCH);
    let (done, mut progress) = watch::channel(0);
    let mut consumers = JoinSet::new();
    for _ in 0..CONSUMERS {
        let connection = connect(options).await?;
        let channel = connection.create_channel().await?;
        consumers.spawn(consume(connection, channel, database.connect().await?, done.clone()));
    }
    let next = Arc::new(AtomicUsize::new(0));
    let mut producers = JoinSet::new();
    let (cpu, begun) = (Cpu::read(&[], &[]), clock::instant());
    for _ in 0..PRODUCERS {
        let connection = connect(options).await?;
        let channel = confirming(&connection).await?;
        producers.spawn(produce(connection, channel, database.connect().await?, next.clone(), batches));
    }
    let jobs = batches * BATCH;
    let finish = async {
        while let Some(produced) = producers.join_next().await {
            produced??;
        }
        progress.wait_for(|done| *done >= jobs).await?;
        anyhow::Ok(())
    };
    tokio::select! {
        finished = finish => finished?,
        Some(ended) = consumers.join_next() => return ended?.and(Err(anyhow::anyhow!("a consumer ended"))),
    }
    let cpu_us = Cpu::read(&[], &[]).zip(cpu).map(|(now, then)| now.per_job(then, jobs));
    Ok(Figures { cpu_us, ..Figures::rate(jobs, begun.elapsed()) })
}

async fn produce(
    _connection: lapin::Connection,
    channel: lapin::Channel,
    mut database: PgConnection,
    next: Arc<AtomicUsize>,
    batches: usize,
) -> anyhow::Result<()> {
    let mut unconfirmed = VecDeque::new();
    loop {
        let batch = next.fetch_add(1, Ordering::Relaxed);
        if batch >= batches {
            break;
        }
        let ids: Vec<Uuid> = (0..BATCH).map(|_| Uuid::now_v7()).collect();
        let payloads: Vec<String> = (0..BATCH).map(|n| payload(batch * BATCH + n)).collect();
        insert(&mut database, &ids, &payloads).await?;
        while unconfirmed.len() + BATCH > WINDOW {
            confirmed(unconfirmed.pop_front()).await?;
        }
        let bodies: Vec<_> = ids.iter().zip(&payloads).map(|(id, payload)| message(*id, payload)).collect();
        unconfirmed.extend(try_join_all(bodies.iter().map(|body| publish(&channel, body))).await?);
    }
    while !unconfirmed.is_empty() {
        confirmed(unconfirmed.pop_front()).await?;
    }
    Ok(())
}

async fn confirmed(promise: Option<impl Future<Output = lapin::Result<lapin::Confirmation>>>) -> anyhow::Result<()> {
    if let Some(promise) = promise {
        anyhow::ensure!(promise.await?.is_ack(), "a message was not confirmed");
    }
    Ok(())
}

/// Completes what comes until it is dropped.
async fn consume(
    _connection: lapin::Connection,
    channel: lapin::Channel,
    mut database: PgConnection,
    done: watch::Sender<usize>,
) -> anyhow::Result<()> {
    channel.basic_qos(2_000, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut arrivals = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    while let Some(first) = arrivals.next().await {
        let mut last = first?;
        let mut ids = vec![id_of(&last.data)?];
        let until = Instant::from_std(clock::instant() + GATHER);
        while ids.len() < BATCH {
            let Ok(Some(arrived)) = timeout_at(until, arrivals.next()).await else { break };
            last = arrived?;
            ids.push(id_of(&last.data)?);
        }
        let completed = complete(&mut database, &ids).await?;
        channel.basic_ack(last.delivery_tag, BasicAckOptions { multiple: true }).await?;
        done.send_modify(|done| *done += completed as usize);
    }
    Ok(())
}
