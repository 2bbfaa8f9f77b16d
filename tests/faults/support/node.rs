//! The place of one process: its proxies, and the lives that it has one after the other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use offload_common::testing::Proxy;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};

use super::process::Process;
use super::program::program;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// `offload api`.
    Api,
    /// `offload worker`.
    Worker,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Api => "api",
            Role::Worker => "worker",
        })
    }
}

/// A process's place.
pub(crate) struct Node {
    pub(crate) role: Role,
    /// From 1, among those of its role.
    pub(crate) number: usize,
    /// Its way to PostgreSQL, and its way to RabbitMQ.
    pub(crate) database: Proxy,
    pub(crate) broker: Proxy,
    /// For whoever does something to either of them.
    pub(crate) network: AsyncMutex<()>,
    folder: PathBuf,
    environment: Vec<(String, String)>,
    address: Mutex<Option<String>>,
    lives: AsyncMutex<Lives>,
}

#[derive(Default)]
struct Lives {
    now: Option<Process>,
    /// What former lives wrote.
    logs: Vec<Vec<String>>,
    /// The process ids of those that were killed, or may have been taken for dead.
    doomed: Vec<u32>,
    /// The process ids of those that were told to end.
    left: Vec<u32>,
}

impl Node {
    pub(super) fn new(
        role: Role,
        number: usize,
        folder: &Path,
        environment: Vec<(String, String)>,
        database: Proxy,
        broker: Proxy,
    ) -> Self {
        let (network, address, lives) = (AsyncMutex::default(), Mutex::default(), AsyncMutex::default());
        Self { role, number, database, broker, network, folder: folder.to_owned(), environment, address, lives }
    }

    /// What it is called: `worker 2`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.role, self.number)
    }

    /// Where it listens now: the API, or a worker's probes.
    pub(crate) fn address(&self) -> Option<String> {
        self.address.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process, for whoever is to do something to it; others wait.
    pub(crate) async fn life(&self) -> Life<'_> {
        Life { node: self, lives: self.lives.lock().await }
    }

    fn set_address(&self, address: Option<String>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// A hold on a process.
pub(crate) struct Life<'a> {
    node: &'a Node,
    lives: MutexGuard<'a, Lives>,
}

impl Life<'_> {
    /// Starts it, with more in its environment, and waits until it listens.
    pub(crate) async fn start(&mut self, more: &[(&str, String)]) {
        let node = self.node;
        let arguments = match node.role {
            Role::Api => ["api", "--listen", "127.0.0.1:0"],
            Role::Worker => ["worker", "--listen", "127.0.0.1:0"],
        };
        let mut environment = node.environment.clone();
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let process = Process::start_program(program(), &node.name(), &node.folder, &environment, &arguments);
        let process = self.lives.now.insert(process);
        node.set_address(Some(process.address().await));
    }

    /// `kill -9`, as a machine that loses power.
    pub(crate) async fn kill(&mut self) {
        self.doom();
        self.process().signal(Signal::KILL);
        self.ended().await;
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits for its end, which somebody has asked for.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        self.node.set_address(None);
        let mut process = self.lives.now.take().expect("it was started");
        let status = process.exit().await;
        let log = process.written().clone();
        self.lives.logs.push(log);
        status
    }

    /// Whether it runs, or is stopped.
    pub(crate) fn is_running(&mut self) -> bool {
        self.lives.now.as_mut().is_some_and(Process::is_running)
    }

    /// Whether a signal has stopped it.
    pub(crate) fn is_stopped(&mut self) -> bool {
        let id = Pid::from_raw(self.id().cast_signed()).expect("no process has the id 0");
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(id), options).is_ok_and(|status| status.is_some_and(|status| status.stopped()))
    }

    /// Others may from now on take its worker for dead, and be right.
    pub(crate) fn doom(&mut self) {
        let id = self.id();
        self.lives.doomed.push(id);
    }

    /// Whether that was said of it.
    pub(crate) fn is_doomed(&mut self) -> bool {
        let id = self.id();
        self.lives.doomed.contains(&id)
    }

    /// It is about to be told to end.
    pub(crate) fn leave(&mut self) {
        let id = self.id();
        self.lives.left.push(id);
    }

    /// The process ids of those that others may have taken for dead, and of those that were told to end.
    pub(crate) fn doomed_and_left(&self) -> (&[u32], &[u32]) {
        (&self.lives.doomed, &self.lives.left)
    }

    /// What it is called.
    pub(crate) fn name(&self) -> String {
        self.node.name()
    }

    /// Its process id.
    pub(crate) fn id(&mut self) -> u32 {
        self.process().id()
    }

    /// What every life wrote so far.
    pub(crate) fn logs(&self) -> Vec<Vec<String>> {
        let now = self.lives.now.as_ref().map(|process| process.written().clone());
        self.lives.logs.iter().cloned().chain(now).collect()
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.lives.now.as_mut().expect("it was started")
    }
}
