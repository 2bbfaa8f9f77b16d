//! A PostgreSQL server of the suite's own, to be stopped, killed and locked up.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use offload_common::testing::within;
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use super::machine;
use super::scratch::{Daemon, Scratch};

/// How long it may take to come up, recovery included.
const STARTING: Duration = Duration::from_secs(90);

/// A connection that takes longer is tried anew.
const CONNECTING: Duration = Duration::from_secs(3);

/// Nothing in it outlives the test, so it need not wait for the disk: what is written survives every end of its
/// processes all the same, as the system keeps it.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "max_connections=200",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "log_min_messages=fatal",
];

/// How it is brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Sessions are ended in good order.
    Fast,
    /// As a crash: recovery follows at the next start.
    Immediate,
}

/// The server.
pub(crate) struct Postgres {
    server: Option<Daemon>,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    scratch: Scratch,
}

impl Postgres {
    /// Makes a new one and starts it.
    pub(crate) async fn new() -> Self {
        let (programs, user) = (machine::postgres_programs(), machine::unprivileged());
        let scratch = Scratch::new("postgres");
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(scratch.path(), Some(uid), Some(gid)).expect("we are root");
        }
        let mut postgres = Self { server: None, programs, user, port: machine::free_port(), scratch };
        let made = postgres
            .command("initdb")
            .args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"])
            .output()
            .expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.start().await;
        postgres
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.arg("-D").arg(self.scratch.path().join("data")).current_dir(self.scratch.path());
        command.env("HOME", self.scratch.path()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let mut command = self.command("postgres");
        command.arg("-p").arg(self.port.to_string()).args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let server = self.server.insert(Daemon::start(&self.scratch, "postgres", &mut command));
        assert!(server.is_running(), "postgres ended at once: see {}", self.scratch.path().display());
        self.answers().await;
    }

    /// Waits until it answers: after a start, or a crash that it recovers from by itself.
    pub(crate) async fn answers(&self) {
        let url = self.url("postgres");
        let answered =
            within(STARTING, async || timeout(CONNECTING, PgConnection::connect(&url)).await.ok()?.ok()).await;
        assert!(answered.is_some(), "postgres does not answer: see {}", self.scratch.path().display());
    }

    /// Stops it. `start` brings it back, with everything that was committed.
    pub(crate) async fn stop(&mut self, shutdown: Shutdown) {
        let mut server = self.server.take().expect("it runs");
        server.signal(match shutdown {
            Shutdown::Fast => Signal::INT,
            Shutdown::Immediate => Signal::QUIT,
        });
        server.ended().await;
    }

    /// Kills one of the server processes that serve a database: the server then ends all of them, and recovers.
    pub(crate) async fn crash(&self, database: &str) {
        let mut connection = self.connect("postgres").await;
        let victim = "SELECT pid FROM pg_stat_activity WHERE datname = $1 ORDER BY random() LIMIT 1";
        let victim: Option<i32> =
            sqlx::query_scalar(victim).bind(database).fetch_optional(&mut connection).await.expect("read");
        if let Some(pid) = victim.and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).expect("it is ours");
            // It has crashed once this very connection is gone.
            let is_gone = async || sqlx::query("SELECT 1").execute(&mut connection).await.err();
            within(STARTING, is_gone).await.expect("a server whose process was killed ends all");
        }
        self.answers().await;
    }

    /// Ends every session in a database, as an administrator would; answers how many.
    pub(crate) async fn terminate_sessions(&self, database: &str) -> i64 {
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
        let mut connection = self.connect("postgres").await;
        sqlx::query_scalar(terminate).bind(database).fetch_one(&mut connection).await.expect("we are the superuser")
    }

    /// Makes an empty database.
    pub(crate) async fn create_database(&self, name: &str) {
        self.on_server(format!("CREATE DATABASE {name}")).await;
    }

    /// Drops one, whoever is connected to it.
    pub(crate) async fn drop_database(&self, name: &str) {
        self.on_server(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }

    async fn on_server(&self, sql: String) {
        let mut connection = self.connect("postgres").await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("we are the superuser");
    }

    /// A connection to one of its databases, for the suite's own look at it.
    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(&self.url(database)).await.expect("it is up")
    }

    /// The URL of one of its databases, as `DATABASE_URL` takes it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.address())
    }

    /// Where it listens, also while it is down.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}
