//! The load: connections that each send the next request as soon as the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use offload_common::clock;

use crate::http::Connection;

/// When it ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After so many requests.
    Count(usize),
    /// After this time.
    Time(Duration),
}

/// What it came to.
pub(crate) struct Loaded {
    /// Requests that were answered as they should be.
    pub(crate) requests: usize,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// What each took, in milliseconds.
    pub(crate) times: Vec<f64>,
}

/// Sends `request(n)` for n from 0 on, over so many connections. Any answer but `status` ends it with an error.
pub(crate) async fn run(
    address: SocketAddr,
    connections: usize,
    until: Until,
    status: u16,
    request: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static,
) -> anyhow::Result<Loaded> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let (next, request) = (Arc::new(AtomicUsize::new(0)), Arc::new(request));
    let begun = clock::instant();
    let tasks: Vec<_> = open
        .into_iter()
        .map(|connection| {
            let (next, request) = (next.clone(), request.clone());
            tokio::spawn(keep_asking(connection, until, begun, status, next, move |n| request(n)))
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    Ok(Loaded { requests: times.len(), elapsed: begun.elapsed(), times })
}

async fn keep_asking(
    mut connection: Connection,
    until: Until,
    begun: Instant,
    status: u16,
    next: Arc<AtomicUsize>,
    request: impl Fn(usize) -> Vec<u8>,
) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let over = match until {
            Until::Count(count) => n >= count,
            Until::Time(limit) => begun.elapsed() >= limit,
        };
        if over {
            return Ok(times);
        }
        let request = request(n);
        let sent = clock::instant();
        connection.expect(status, &request).await?;
        times.push(sent.elapsed().as_secs_f64() * 1e3);
    }
}
