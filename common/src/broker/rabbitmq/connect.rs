//! One attempt to connect, bounded in time, and the means to end what came of it.
//!
//! The client library runs each connection on a thread of its own that ends when its socket does, and only then: a
//! handshake that never comes to an end, or a close that cannot be written because an alarm blocks the connection, would
//! leave it behind. A [`Lifeline`] is a second handle on the socket, to shut it down in any case.
//!
//! No call of the library is bounded in time either: whoever calls does so [`Live::within`] some patience.

use std::future::Future;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, TLSConfig};
use lapin::uri::AMQPScheme;
use lapin::{Connection, ConnectionProperties};
use tokio_util::sync::CancellationToken;

use super::address::Address;

/// An open connection. Dropping it ends it for certain.
pub(super) struct Live {
    pub(super) connection: Connection,
    /// Fires when the connection is gone.
    pub(super) lost: CancellationToken,
    lifeline: Lifeline,
    patience: Duration,
}

impl Live {
    /// Does what the broker has to answer, or the connection to take. Where that does not come in time, nothing can be
    /// expected of this connection any more, and it is hung up.
    pub(super) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, lapin::Error>>,
    ) -> Result<T, lapin::Error> {
        let answered = tokio::time::timeout(self.patience, call).await;
        answered.unwrap_or_else(|_| {
            self.fail();
            Err(timed_out("the broker did not answer in time").into())
        })
    }

    /// Hangs up, since it no longer does what it should. The link notices, and connects again.
    pub(super) fn fail(&self) {
        self.lifeline.cut();
    }

    /// Ends it for good, and tells everybody who works on it.
    pub(super) fn end(&self) {
        self.lost.cancel();
        self.lifeline.cut();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

/// Connects and shakes hands. `name` is what the broker's own tools show.
pub(super) async fn connect(address: &Address, name: &str) -> Result<Live, lapin::Error> {
    let lifeline = Lifeline::default();
    let properties = ConnectionProperties::default()
        .with_client_property("product".into(), "Offload".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
        .with_connection_name(name.into());
    let (timeout, held) = (address.connect_timeout, lifeline.clone());
    let runtime = lapin::runtime::default_runtime()?;
    let connecting = Connection::connector(
        address.uri.clone(),
        runtime,
        async move |uri, runtime| {
            let reach = async {
                let target = (uri.authority.host.clone(), uri.authority.port);
                let stream = AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs(target)).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    held.hold(plain.get_ref())?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => stream.into_tls(&uri.authority.host, TLSConfig::default()).await,
                }
            };
            let reached = tokio::time::timeout(timeout, reach).await;
            Ok(reached.unwrap_or_else(|_| Err(timed_out("the server was not reached in time")))?)
        },
        properties,
    );
    match tokio::time::timeout(address.connect_timeout, connecting).await {
        Ok(connected) => {
            let (lost, patience) = (CancellationToken::new(), address.patience());
            Ok(Live { connection: connected?, lost, lifeline, patience })
        }
        Err(_) => {
            lifeline.cut();
            Err(timed_out("the server did not shake hands in time").into())
        }
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// A second handle on a connection's socket.
#[derive(Clone, Default)]
struct Lifeline(Arc<Mutex<Line>>);

#[derive(Default)]
enum Line {
    /// No socket yet.
    #[default]
    Slack,
    Held(TcpStream),
    Cut,
}

impl Lifeline {
    /// Takes hold of a socket, unless the line has been cut already.
    fn hold(&self, socket: &impl AsFd) -> io::Result<()> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*line, Line::Cut) {
            return Err(timed_out("the attempt was given up"));
        }
        *line = Line::Held(socket.as_fd().try_clone_to_owned()?.into());
        Ok(())
    }

    fn cut(&self) {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Line::Held(socket) = std::mem::replace(&mut *line, Line::Cut) {
            // It fails where the peer closed first, which is as good.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
