//! Ten thousand streams on one api process: what they take while nothing happens, and who wakes when something does.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::client::Client;
use crate::distribution::count;
use crate::footprint::{Footprint, cpu_time};
use crate::support::{FleetBuilder, Site, pass};

/// So many of the streams follow one job, and so many one list; each of the others has a job of its own.
const SHARED: usize = 500;
/// They are opened so many at a time.
const AT_ONCE: usize = 100;
/// How long it is looked at what they take.
const IDLE: Duration = Duration::from_secs(20);
/// The most memory that the process may have, in KiB.
const MOST: usize = 300 * 1024;

const TRANSACTIONS: &str =
    "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";

/// A stream that is open.
struct Stream {
    socket: TcpStream,
    text: Vec<u8>,
}

impl Stream {
    /// Opens the one at a path, and reads the first event.
    async fn open(address: &str, path: String) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut stream = Self { socket, text: Vec::new() };
        stream.event().await;
        stream
    }

    /// Waits for an event.
    async fn event(&mut self) {
        while self.taken() == 0 {
            let read = self.socket.read_buf(&mut self.text).await.expect("open");
            assert_ne!(read, 0, "the stream ended: {}", String::from_utf8_lossy(&self.text));
        }
    }

    /// How many events have come and were not counted before.
    fn meanwhile(&mut self) -> usize {
        while self.socket.try_read_buf(&mut self.text).is_ok_and(|read| read > 0) {}
        self.taken()
    }

    /// Takes the events out of what has been read. Each comes in one piece.
    fn taken(&mut self) -> usize {
        let events = String::from_utf8_lossy(&self.text).matches("\nevent: ").count();
        if events > 0 {
            self.text = Vec::new();
        }
        events
    }
}

async fn open(address: &str, paths: Vec<String>) -> Vec<Stream> {
    let mut streams = Vec::with_capacity(paths.len());
    for part in paths.chunks(AT_ONCE) {
        streams.extend(join_all(part.iter().map(|path| Stream::open(address, path.clone()))).await);
    }
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_take_little_and_only_those_concerned_wake() {
    let all = count("OFFLOAD_ENDURANCE_STREAMS", 10_000);
    let single = all.saturating_sub(2 * SHARED);
    let fleet = FleetBuilder::new(1, 0).start(Site::take().await).await;
    let (api, client) = (&fleet.apis()[0], Client::of(&fleet));
    client
        .submit_batch(json!({
            "defaults": {"kind": "fault.ledger", "payload": {"seconds": 0}, "delay_seconds": 36_000},
            "jobs": vec![json!({}); single + 2],
        }))
        .await;
    let mut database = PgConnection::connect(&fleet.database_url).await.expect("it is up");
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM offload.jobs ORDER BY id").fetch_all(&mut database).await.expect("read");
    let (&[shared, listed], own) = ids.split_last_chunk().map(|(own, last)| (last, own)).expect("two more");
    let process = api.life().await.id();
    let before = Footprint::of(process);

    let address = api.address().expect("it listens").trim_start_matches("http://").to_owned();
    let events = |id: &Uuid| format!("/v1/jobs/{id}/events");
    let mut own = open(&address, own.iter().map(events).collect()).await;
    let mut of_one = open(&address, vec![events(&shared); SHARED]).await;
    let mut lists = open(&address, vec!["/v1/events?state=scheduled&limit=1".to_owned(); SHARED]).await;

    let transactions: i64 = sqlx::query_scalar(TRANSACTIONS).fetch_one(&mut database).await.expect("read");
    let worked = cpu_time(process);
    pass(IDLE).await;
    let worked = cpu_time(process) - worked;
    let now: i64 = sqlx::query_scalar(TRANSACTIONS).fetch_one(&mut database).await.expect("read");
    let idle = Footprint::of(process);
    println!(
        "{} streams on one api process: {} MiB, {} before; while nothing happens {:.1} % of a core and {:.1} transactions \
         a second",
        own.len() + of_one.len() + lists.len(),
        idle.resident / 1024,
        before.resident / 1024,
        100.0 * worked.as_secs_f64() / IDLE.as_secs_f64(),
        (now - transactions) as f64 / IDLE.as_secs_f64(),
    );
    assert!(idle.resident <= MOST, "{} KiB", idle.resident);

    // The list shows the last job only.
    client.cancel(&shared.to_string()).await;
    join_all(of_one.iter_mut().map(Stream::event)).await;
    assert_eq!(lists.iter_mut().map(Stream::meanwhile).sum::<usize>(), 0, "it was not in the list");
    client.cancel(&listed.to_string()).await;
    join_all(lists.iter_mut().map(Stream::event)).await;
    assert_eq!(own.iter_mut().map(Stream::meanwhile).sum::<usize>(), 0, "nothing has happened to their jobs");
    fleet.end().await;
}
