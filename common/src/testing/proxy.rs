//! A TCP proxy that a test can cut, stall, slow down and restore: a network that fails on command, in front of PostgreSQL,
//! RabbitMQ or anything else that speaks TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Passes connections on to a target. Everything ends when it is dropped.
pub struct Proxy {
    addr: SocketAddr,
    rules: watch::Sender<Rules>,
    traffic: watch::Receiver<Traffic>,
    task: JoinHandle<()>,
}

/// What the proxy does with bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    Stall,
    Refuse,
}

#[derive(Clone, Copy)]
struct Rules {
    mode: Mode,
    /// How much later than sent bytes arrive.
    delay: Duration,
    /// Connections of an earlier era are to be dropped.
    era: u64,
}

/// What came through.
#[derive(Clone, Copy, Default)]
struct Traffic {
    open: usize,
    accepted: usize,
}

impl Proxy {
    /// Listens on a free loopback port and passes connections on to `target`.
    ///
    /// # Panics
    /// Where no loopback port can be had.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let (rules, watched) = watch::channel(Rules { mode: Mode::Pass, delay: Duration::ZERO, era: 0 });
        let (count, traffic) = watch::channel(Traffic::default());
        let task = tokio::spawn(accept(listener, target, watched, count));
        Self { addr, rules, traffic, task }
    }

    /// Where it listens. Stays the same through cuts.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Drops every connection. New ones are passed on.
    pub fn disconnect(&self) {
        self.rules.send_modify(|rules| rules.era += 1);
    }

    /// Drops every connection, and every new one as soon as it is made.
    pub fn cut(&self) {
        self.rules.send_modify(|rules| *rules = Rules { mode: Mode::Refuse, era: rules.era + 1, ..*rules });
    }

    /// Keeps connections open, and accepts new ones, but lets no byte through: a network that swallows packets, or a
    /// server that hangs. Nothing is lost: [`Proxy::restore`] lets the bytes flow on.
    pub fn stall(&self) {
        self.rules.send_modify(|rules| rules.mode = Mode::Stall);
    }

    /// Holds what is sent in either direction, up to 16 KiB at a time, back for `delay`: a long and narrow way.
    pub fn slow(&self, delay: Duration) {
        self.rules.send_modify(|rules| rules.delay = delay);
    }

    /// Passes everything on again, at once.
    pub fn restore(&self) {
        self.rules.send_modify(|rules| *rules = Rules { mode: Mode::Pass, delay: Duration::ZERO, ..*rules });
    }

    /// How many connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.traffic.borrow().open
    }

    /// How many connections were ever made to it, dropped ones included.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.traffic.borrow().accepted
    }

    /// Waits until the number of open connections satisfies `condition`.
    pub async fn wait_for_connections(&mut self, condition: impl Fn(usize) -> bool) {
        // The task that counts lives as long as the proxy.
        let _ = self.traffic.wait_for(|traffic| condition(traffic.open)).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    rules: watch::Receiver<Rules>,
    count: watch::Sender<Traffic>,
) {
    let count = Arc::new(count);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let (rules, counted) = (rules.clone(), Counted::new(count.clone()));
                connections.spawn(async move {
                    let _counted = counted;
                    carry(client, target, rules).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts one connection for as long as it lives.
struct Counted(Arc<watch::Sender<Traffic>>);

impl Counted {
    fn new(count: Arc<watch::Sender<Traffic>>) -> Self {
        count.send_modify(|traffic| {
            traffic.open += 1;
            traffic.accepted += 1;
        });
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|traffic| traffic.open -= 1);
    }
}

/// Carries one connection until an end closes it or the rules drop it.
async fn carry(client: TcpStream, target: SocketAddr, mut rules: watch::Receiver<Rules>) {
    let born = *rules.borrow_and_update();
    if born.mode == Mode::Refuse {
        return;
    }
    let passed = async {
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let era = born.era;
        tokio::try_join!(
            pump(from_client, to_server, rules.clone(), era),
            pump(from_server, to_client, rules.clone(), era)
        )
    };
    let mut watched = rules.clone();
    tokio::select! {
        // An error means that one end is gone; dropping both halves tells the other.
        _ = passed => {}
        _ = watched.wait_for(|now| now.era != born.era) => {}
    }
}

/// Copies one direction, and holds bytes back while stalled or slow. Once its era is over nothing more comes through: a
/// connection that is dropped and everything restored in one go does not pass on what it held back.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    era: u64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        let delay = rules.borrow().delay;
        // Over, or lifted.
        let _ = timeout(delay, rules.wait_for(|now| now.delay.is_zero())).await;
        let passes =
            rules.wait_for(|now| now.mode == Mode::Pass || now.era != era).await.is_ok_and(|now| now.era == era);
        if !passes || length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every byte with itself, and a proxy in front of it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let target = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Proxy::start(target).await
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_an_end_is_passed_on() {
        let mut proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut stream, 7).await.expect("echoed"), 7);
        assert_eq!(proxy.connections(), 1);
        stream.shutdown().await.expect("shut down");
        assert_eq!(stream.read(&mut [0]).await.expect("the end"), 0);
        proxy.wait_for_connections(|open| open == 0).await;
    }

    #[tokio::test]
    async fn a_cut_drops_connections_and_refuses_new_ones_until_restored() {
        let mut proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut stream, 1).await.expect("echoed"), 1);
        proxy.cut();
        proxy.wait_for_connections(|open| open == 0).await;
        ask(&mut stream, 2).await.expect_err("the connection is gone");
        let mut refused = TcpStream::connect(proxy.addr()).await.expect("the listener stays");
        ask(&mut refused, 3).await.expect_err("dropped at once");
        proxy.restore();
        let mut passed = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut passed, 4).await.expect("echoed"), 4);
    }

    #[tokio::test]
    async fn a_disconnect_drops_what_is_open_and_nothing_else() {
        let mut proxy = echo().await;
        let mut old = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut old, 1).await.expect("echoed"), 1);
        proxy.disconnect();
        proxy.wait_for_connections(|open| open == 0).await;
        ask(&mut old, 2).await.expect_err("the connection is gone");
        let mut new = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut new, 3).await.expect("echoed"), 3);
    }

    #[tokio::test]
    async fn a_stall_holds_bytes_back_and_loses_none() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("connected");
        assert_eq!(ask(&mut stream, 1).await.expect("echoed"), 1);
        proxy.stall();
        stream.write_u8(2).await.expect("taken");
        let mut other = TcpStream::connect(proxy.addr()).await.expect("connections are still accepted");
        other.write_u8(3).await.expect("taken");
        assert!(futures_util::poll!(std::pin::pin!(stream.read_u8())).is_pending());
        proxy.restore();
        assert_eq!(stream.read_u8().await.expect("echoed"), 2);
        assert_eq!(other.read_u8().await.expect("echoed"), 3);
    }

    /// Many at once, each of which might be woken by the restoring first.
    #[tokio::test]
    async fn what_a_dropped_connection_held_back_never_arrives() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let mut proxy = Proxy::start(listener.local_addr().expect("bound")).await;
        let (mut clients, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            clients.push(TcpStream::connect(proxy.addr()).await.expect("connected"));
            servers.push(listener.accept().await.expect("passed on").0);
        }
        proxy.stall();
        for server in &mut servers {
            server.write_u8(1).await.expect("taken");
        }
        // By the time that one more has come, the proxy has read what came before.
        let _last = TcpStream::connect(proxy.addr()).await.expect("connections are still accepted");
        proxy.wait_for_connections(|open| open == 21).await;
        proxy.disconnect();
        proxy.restore();
        for mut client in clients {
            client.read_u8().await.expect_err("the connection is gone");
        }
    }

    #[tokio::test]
    async fn a_slow_way_delays_bytes_until_it_is_restored() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.addr()).await.expect("connected");
        proxy.slow(Duration::from_millis(1));
        assert_eq!(ask(&mut stream, 1).await.expect("echoed"), 1);
        proxy.slow(Duration::from_secs(3600));
        stream.write_u8(2).await.expect("taken");
        assert!(futures_util::poll!(std::pin::pin!(stream.read_u8())).is_pending());
        proxy.restore();
        assert_eq!(stream.read_u8().await.expect("echoed"), 2);
    }
}
