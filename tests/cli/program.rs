//! Running the binary, in a folder of its own and with nothing of this process's environment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use offload_common::clock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Everything that is waited for comes well within this, on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The binary, about to run in `folder`.
pub(crate) fn offload(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offload"));
    command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What a run of it came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; a process that a signal killed has none.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// The lines of standard output, as JSON.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}

/// Runs it to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A server that runs; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
    /// Its working directory.
    pub(crate) folder: TempDir,
}

impl Server {
    /// `offload dev` on a free port.
    pub(crate) fn dev() -> Self {
        Self::dev_with(&[], &[])
    }

    /// `offload dev` with more arguments and variables.
    pub(crate) fn dev_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = offload(folder.path(), &["dev", "--listen", "127.0.0.1:0"]);
        command.args(arguments).env("OFFLOAD_LOG", "error").envs(variables.iter().copied());
        Self::start(command, folder)
    }

    /// Starts a server, and waits until it says where it listens.
    pub(crate) fn start(mut command: Command, folder: TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (found, url) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, url)) = line.split_once("listens on ") {
                    let _ = found.send(url.split(';').next().unwrap_or(url).to_owned());
                }
            }
        });
        let url = url.recv_timeout(DEADLINE).expect("it says where it listens");
        Self { child, url, folder }
    }

    /// A client command that talks to it.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        let mut command = offload(self.folder.path(), arguments);
        command.env("OFFLOAD_SERVER", &self.url);
        command
    }

    /// Runs a client command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.client(arguments), "")
    }

    /// Submits a job, and answers its id.
    pub(crate) fn submit(&self, arguments: &[&str]) -> String {
        let ran = self.run(&[&["submit", "--json"], arguments].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.json()[0]["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a job is in a state.
    pub(crate) fn until_state(&self, id: &str, state: &str) {
        self.until(&format!("job {id} is not {state}"), || {
            self.run(&["status", id, "--json"]).json().first().is_some_and(|job| job["state"] == state)
        });
    }

    /// Waits until it takes no new connections.
    pub(crate) fn until_refusing(&self) {
        self.until("it still listens", || self.run(&["health"]).code == Some(69));
    }

    fn until(&self, otherwise: &str, mut holds: impl FnMut() -> bool) {
        let begun = clock::instant();
        while !holds() {
            assert!(begun.elapsed() < DEADLINE, "{otherwise}");
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Waits for its end; one that does not come in time is killed, and so has no exit code.
    pub(crate) fn ended(mut self) -> ExitStatus {
        let (pid, (done, ending)) = (self.pid(), mpsc::channel::<()>());
        std::thread::spawn(move || match ending.recv_timeout(DEADLINE) {
            Err(RecvTimeoutError::Timeout) => kill_process(pid, Signal::KILL).is_ok(),
            _ => true,
        });
        let status = self.child.wait().expect("our child");
        drop(done);
        status
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a process id")).expect("not zero")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
