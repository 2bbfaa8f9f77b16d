//! A process of the binary, with what it wrote.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use offload_common::testing::eventually;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// A running `offload`. Dropping it kills it; what it wrote is shown if the test fails.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `offload <arguments>` in a folder, with this environment and no other.
    pub(crate) fn start(name: &str, folder: &Path, environment: &[(String, String)], arguments: &[&str]) -> Self {
        Self::start_program(offload(), name, folder, environment, arguments)
    }

    /// The same with another program.
    pub(crate) fn start_program(
        program: &Path,
        name: &str,
        folder: &Path,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> Self {
        let mut child = Self::command(program, folder, environment, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = Arc::default();
        collect(child.stdout.take().expect("piped"), &output);
        collect(child.stderr.take().expect("piped"), &output);
        Self { name: name.to_owned(), child, output }
    }

    /// Runs it to its end; it must succeed.
    pub(crate) async fn run(name: &str, folder: &Path, environment: &[(String, String)], arguments: &[&str]) {
        let mut process = Self::start(name, folder, environment, arguments);
        let status = process.exit().await;
        assert!(status.success(), "{name} ended with {status}");
    }

    /// Runs it to its end, whatever that is.
    pub(crate) async fn output(folder: &Path, environment: &[(String, String)], arguments: &[&str]) -> Output {
        let mut command = Self::command(offload(), folder, environment, arguments);
        let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
        output.await.expect("it does not panic").expect("the binary starts")
    }

    fn command(program: &Path, folder: &Path, environment: &[(String, String)], arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(arguments).current_dir(folder).env_clear().env("PATH", path).env("RUST_BACKTRACE", "1");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The address that it says it listens on.
    pub(crate) async fn address(&mut self) -> String {
        self.line("the address", |line| {
            let url = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:"))?;
            Some(url.to_owned())
        })
        .await
    }

    /// Waits for a line of its output that `find` finds something in.
    pub(crate) async fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let what = format!("{} writes {what}", self.name);
        eventually(&what, async || {
            let ended = self.child.try_wait().expect("it can be asked");
            let found = self.written().iter().find_map(|line| find(line));
            match ended {
                Some(status) if found.is_none() => panic!("{} ended with {status}", self.name),
                _ => found,
            }
        })
        .await
    }

    /// Waits until it has written this, alive or not.
    pub(crate) async fn wrote(&self, text: &str) {
        let what = format!("{} writes `{text}`", self.name);
        let found = || self.written().iter().any(|line| line.contains(text));
        eventually(&what, async || found().then_some(())).await;
    }

    /// What it has written so far, line by line.
    pub(crate) fn written(&self) -> MutexGuard<'_, Vec<String>> {
        self.output.lock().expect("not poisoned")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        match kill_process(pid, signal) {
            // It has ended by itself, and is waited for already.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("{} cannot be sent {signal:?}: {error}", self.name),
        }
    }

    /// Waits for its end.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, async || self.child.try_wait().expect("it can be asked")).await
    }

    /// `kill -9`, as a machine that loses power.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exit().await;
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }
}

/// The binary.
fn offload() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_offload"))
}

/// Gathers the lines of a stream until it ends.
fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<Vec<String>>>) {
    let output = output.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            output.lock().expect("not poisoned").push(line);
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let output = self.output.lock().map(|lines| lines.join("\n")).unwrap_or_default();
            println!("--- what {} wrote ---\n{output}\n---", self.name);
        }
    }
}
