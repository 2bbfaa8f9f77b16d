//! One job: its row, its message, its completion, and one look at the row; without HTTP.

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use offload_common::clock;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::{QUEUE, complete, confirming, connect, id_of, insert, message, publish};
use crate::figures::Figures;
use crate::options::Options;
use crate::scenarios::{PAUSE, payload};
use crate::site::Database;

const WARM_UP: usize = 50;

pub(super) async fn measure(options: &Options, database: &Database) -> anyhow::Result<Figures> {
    let (consuming, publishing) = (connect(options).await?, connect(options).await?);
    let channel = consuming.create_channel().await?;
    let (done, mut finished) = mpsc::channel(1);
    let consumer = tokio::spawn(consume(channel, database.connect().await?, done));
    let channel = confirming(&publishing).await?;
    let mut connection = database.connect().await?;
    let (mut times, jobs) = (Vec::new(), options.count(1_000.0));
    for n in 0..WARM_UP + jobs {
        let (id, payload) = (Uuid::now_v7(), payload(n));
        let begun = clock::instant();
        insert(&mut connection, &[id], std::slice::from_ref(&payload)).await?;
        publish(&channel, &message(id, &payload)).await?.await?;
        anyhow::ensure!(finished.recv().await == Some(id), "another job finished");
        let state: i16 =
            sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1").bind(id).fetch_one(&mut connection).await?;
        anyhow::ensure!(state == 2, "the job is not completed");
        if n >= WARM_UP {
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        sleep(PAUSE).await;
    }
    consumer.abort();
    Ok(Figures::default().latencies(times))
}

async fn consume(channel: lapin::Channel, mut database: PgConnection, done: mpsc::Sender<Uuid>) -> anyhow::Result<()> {
    let options = BasicConsumeOptions::default();
    let mut arrivals = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
    while let Some(arrived) = arrivals.next().await {
        let arrived = arrived?;
        let id = id_of(&arrived.data)?;
        complete(&mut database, &[id]).await?;
        channel.basic_ack(arrived.delivery_tag, BasicAckOptions::default()).await?;
        done.send(id).await?;
    }
    Ok(())
}
