//! A RabbitMQ server of the suite's own, to be stopped, wiped and blocked.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use offload_common::testing::within;
use serde::Deserialize;
use tokio::time::timeout;

use super::machine;
use super::queues;
use super::scratch::{Daemon, Scratch};

/// How long it may take to come up.
const STARTING: Duration = Duration::from_secs(120);

/// A connection that takes longer is tried anew.
const CONNECTING: Duration = Duration::from_secs(3);

/// The share of the memory that it may take: what it says by itself, and one that it has long passed.
const NO_ALARM: &str = "0.4";
const ALARM: &str = "0.0000001";

/// A queue as the server sees it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct QueueDepth {
    pub(crate) name: String,
    /// Delivered and not settled ones included.
    pub(crate) messages: u64,
}

/// The server.
pub(crate) struct RabbitMq {
    server: Option<Daemon>,
    /// Its port mapper: one of its own, so that nothing of an installed server is met.
    _mapper: Daemon,
    programs: PathBuf,
    environment: Vec<(String, String)>,
    port: u16,
    scratch: Scratch,
}

impl RabbitMq {
    /// Makes a new one and starts it.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same with further lines of `rabbitmq.conf`.
    pub(crate) async fn with(settings: &[&str]) -> Self {
        let (programs, scratch) = (machine::rabbitmq_programs(), Scratch::new("rabbitmq"));
        let (port, mapper) = (machine::free_port(), machine::free_port());
        let path = |name: &str| scratch.path().join(name).to_str().expect("readable").to_owned();
        let environment = [
            ("HOME", path("")),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("ERL_EPMD_PORT", mapper.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODENAME", format!("offload-faults-{port}@localhost")),
            ("RABBITMQ_DIST_PORT", machine::free_port().to_string()),
            ("RABBITMQ_CONF_ENV_FILE", path("none")),
            ("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", path("none")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins")),
            ("RABBITMQ_MNESIA_BASE", path("data")),
            ("RABBITMQ_LOG_BASE", path("log")),
            ("RABBITMQ_PID_FILE", path("pid")),
        ];
        let environment: Vec<_> = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let listener = format!("listeners.tcp.1 = 127.0.0.1:{port}");
        let lines = [&[listener.as_str(), "log.file.level = warning", "log.console = false"], settings].concat();
        let cookie = path(".erlang.cookie");
        fs::write(path("rabbitmq.conf"), lines.join("\n") + "\n").expect("the folder is ours");
        fs::write(path("plugins"), "[].").expect("the folder is ours");
        // Left to themselves, the server and the first tool would each make up a cookie, and one of them would lose.
        fs::write(&cookie, format!("{:016x}", rand::random::<u64>())).expect("the folder is ours");
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).expect("the folder is ours");
        let environment_of_mapper = environment.iter().map(|(name, value)| (name, value));
        let mut command = Command::new("epmd");
        command.args(["-port", &mapper.to_string(), "-address", "127.0.0.1"]).envs(environment_of_mapper);
        let mapper = Daemon::start(&scratch, "epmd", &mut command);
        let mut rabbitmq = Self { server: None, _mapper: mapper, programs, environment, port, scratch };
        rabbitmq.start().await;
        rabbitmq
    }

    fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) async fn start(&mut self) {
        let mut command = Command::new(self.programs.join("rabbitmq-server"));
        command.env_clear().envs(self.environment()).current_dir(self.scratch.path());
        self.server = Some(Daemon::start(&self.scratch, "rabbitmq", &mut command));
        let url = self.url();
        let connected = within(STARTING, async || {
            // One that is made while it boots may be left hanging.
            timeout(CONNECTING, answers(&url)).await.ok()?.ok()
        });
        assert!(connected.await.is_some(), "RabbitMQ takes no connections: see {}", self.scratch.path().display());
    }

    /// Stops it in good order. `start` brings it back with what it holds.
    pub(crate) async fn stop(&mut self) {
        self.ctl(&["stop"]).await;
        self.server.take().expect("it runs").ended().await;
    }

    /// Kills it, and throws everything that it holds away. `start` brings it back empty.
    pub(crate) fn wipe(&mut self) {
        drop(self.server.take().expect("it runs"));
        fs::remove_dir_all(self.scratch.path().join("data")).expect("the folder is ours");
    }

    /// With the memory alarm on it takes no publish: it stops reading from whoever tries one.
    pub(crate) async fn alarm(&self, on: bool) {
        self.ctl(&["set_vm_memory_high_watermark", if on { ALARM } else { NO_ALARM }]).await;
    }

    /// Closes every connection by force, so many times in a row, with a pause in between.
    pub(crate) async fn close_connections(&self, times: u32, pause: Duration) {
        let close =
            "rabbit_networking:close_connections(rabbit_networking:connections(), \"closed by the fault suite\")";
        let each = format!("begin (catch {close}), receive after {} -> ok end end", pause.as_millis());
        self.eval(&format!("[{each} || _ <- lists:seq(1, {times})], ok.")).await;
    }

    /// Deletes the queues under a prefix, whatever is in them.
    pub(crate) async fn delete_queues(&self, prefix: &str) {
        queues::delete(&self.url(), prefix).await.expect("deleted");
    }

    /// Has the server cancel every consumer.
    pub(crate) async fn cancel_consumers(&self) {
        let cancel = "rabbit_channel:send_command(proplists:get_value(channel_pid, C),
            {'basic.cancel', proplists:get_value(consumer_tag, C), true})";
        self.eval(&format!("[{cancel} || C <- rabbit_amqqueue:consumers_all(<<\"/\">>)], ok.")).await;
    }

    /// The queues under a prefix.
    pub(crate) async fn depths(&self, prefix: &str) -> Vec<QueueDepth> {
        let answer = self.ctl(&["list_queues", "--formatter", "json", "name", "messages"]).await;
        let mut depths: Vec<QueueDepth> = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
        depths.retain(|queue| queue.name.starts_with(&format!("{prefix}.")));
        depths
    }

    /// How many connections, and how many channels, are open.
    pub(crate) async fn connections_and_channels(&self) -> (u64, u64) {
        let counts =
            "io:format(\"~b ~b~n\", [length(rabbit_networking:connections()), length(rabbit_channel:list())]).";
        let answer = self.eval(counts).await;
        let counts = answer.lines().next().and_then(|line| line.split_once(' '));
        let counts = counts.and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
        counts.unwrap_or_else(|| panic!("no two numbers: {answer}"))
    }

    /// Evaluates Erlang in the server; answers what it prints.
    pub(crate) async fn eval(&self, erlang: &str) -> String {
        self.ctl(&["eval", erlang]).await
    }

    /// Runs `rabbitmqctl`; answers what it writes.
    pub(crate) async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(self.programs.join("rabbitmqctl"));
        command.arg("-q").args(arguments).env_clear().envs(self.environment()).current_dir(self.scratch.path());
        let done = command.stdin(std::process::Stdio::null()).output().await.expect("rabbitmqctl starts");
        let [output, errors] = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(done.status.success(), "rabbitmqctl {arguments:?}: {output}{errors}");
        output
    }

    /// Its URL, as `AMQP_URL` takes it.
    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }

    /// Where it listens, also while it is down.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

async fn answers(url: &str) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    connection.close(200, "it is up".into()).await
}
