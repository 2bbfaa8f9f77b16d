//! Serving: connections in, graceful shutdown.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use offload_common::broker::Broker;
use offload_common::config::{CallbacksConfig, FilesConfig, JobsConfig, ServerConfig};
use offload_common::files::Files;
use offload_common::kind::KindSpec;
use offload_common::publisher::Publisher;
use offload_common::store::Store;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::routes;

/// A connection that sends no whole request head for this long is closed. Longer than the minute that proxies keep idle
/// connections for, so that it is they who close.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);

/// The pause after the system refused a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The HTTP intake, ready to serve.
pub struct Api {
    /// What remembers the jobs.
    pub store: Arc<dyn Store>,
    /// What carries them; asked for its health, and used for signals.
    pub broker: Arc<dyn Broker>,
    /// What publishes accepted jobs.
    pub publisher: Publisher,
    /// Uploads and downloads.
    pub files: Files,
    /// The kinds that this process knows without asking: built in, and in its configuration.
    pub specs: Vec<KindSpec>,
    /// The names of the queues that requests may name.
    pub queues: Vec<String>,
    /// The HTTP side.
    pub config: ServerConfig,
    /// Defaults and limits of jobs.
    pub jobs: JobsConfig,
    /// What signs callbacks that name no secret.
    pub callbacks: CallbacksConfig,
    /// Limits of files.
    pub files_config: FilesConfig,
    /// Whether the page of `examples/web` is served, at `/demo/`.
    pub demo: bool,
}

impl Api {
    /// Serves until `shutdown` fires. Then takes no new connections, answers those who wait for a job at once, and lets
    /// running requests end for up to `drain_seconds`.
    ///
    /// # Errors
    /// Where the listener's address cannot be read, which means that it is no socket.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let address = listener.local_addr()?;
        let drain = Duration::from_secs(self.config.drain_seconds);
        let app = App::start(self, shutdown.clone());
        let sockets = app.sockets.clone();
        let router = routes::router(app);
        let connections = GracefulShutdown::new();
        tracing::info!(%address, "listening");
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, _)) => spawn_connection(stream, router.clone(), &connections),
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        sockets.close();
        tracing::info!(connections = connections.count(), sockets = sockets.len(), "shutting down");
        let ended = async {
            connections.shutdown().await;
            sockets.wait().await;
        };
        if timeout(drain, ended).await.is_err() {
            tracing::warn!(drain_seconds = drain.as_secs(), "requests were still running after the grace time");
        }
        Ok(())
    }

    /// All routes, as a service; [`Api::serve`] is this behind a socket. Starts the tasks that requests rely on.
    pub fn router(self, shutdown: CancellationToken) -> Router {
        routes::router(App::start(self, shutdown))
    }
}

fn spawn_connection(stream: TcpStream, router: Router, connections: &GracefulShutdown) {
    // Answers are small and written whole: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_PATIENCE);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error, "a connection ended badly");
        }
    });
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests;
