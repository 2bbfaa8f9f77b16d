//! A folder of a test's own, and the servers that live in it. Both are gone when the test's process is, however it ends:
//! a shell waits for that at the other end of a pipe.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use offload_common::testing::within;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Ends the process groups that are noted in a folder, and removes it, once the pipe is closed. Not before: it shares no
/// process group with the test, so that Ctrl-C does not reach it.
const GUARD: &str = r#"
read -r _
for group in $(cat "$1"/*.group 2>/dev/null); do kill -s KILL -- "-$group"; done
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && break; sleep 0.2; done
"#;

/// How long a server may take to end in good order.
const ENDING: Duration = Duration::from_secs(60);

/// The folder.
pub(crate) struct Scratch {
    path: PathBuf,
    guard: Child,
}

impl Scratch {
    /// Makes one, that every user may look into: PostgreSQL runs as another than root.
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("offload-faults-{name}.")).tempdir();
        let path = folder.expect("a temporary folder").keep();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self { path, guard: guard.expect("sh starts") }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// A running server program, in a process group of its own.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    note: PathBuf,
}

impl Daemon {
    /// Starts it; what it writes is appended to `<name>.log` in the folder.
    pub(crate) fn start(scratch: &Scratch, name: &str, command: &mut Command) -> Self {
        let log = scratch.path().join(format!("{name}.log"));
        let log = File::options().append(true).create(true).open(log).expect("the folder is ours");
        let errors = log.try_clone().expect("a file handle");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let note = scratch.path().join(format!("{name}.group"));
        fs::write(&note, format!("{}\n", child.id())).expect("the folder is ours");
        Self { name: name.to_owned(), child, note }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_none()
    }

    /// Sends a signal to the program itself.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(Pid::from_child(&self.child), signal).expect("it is ours");
        }
    }

    /// Waits for its end, which somebody has asked for.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let status = within(ENDING, async || self.child.try_wait().expect("it can be asked")).await;
        status.unwrap_or_else(|| panic!("{} does not end within {ENDING:?}", self.name))
    }
}

impl Drop for Daemon {
    /// Ends it at once, with whatever it started in its group.
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.note);
    }
}
