//! A running program: talking with it, and its end, in good order or not.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio::runtime::Handle;

use super::protocol::{Listener, Said};

/// How long a program that is to stop has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long the pipes of a program that has exited are read on. Its process group is dead by then, so they end at once,
/// unless a descendant has left the group and holds them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program that has come to its end by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// All of its standard output.
    pub(super) output: Vec<u8>,
    /// The last lines of its standard error.
    pub(super) complaint: String,
}

/// Why talking with it was broken off.
#[derive(Debug)]
pub(super) enum Interrupted {
    OutputTooLarge,
    Pipe(io::Error),
}

/// A program with its process group; nothing once it has come to its end. Dropped before, it is ended: SIGTERM to the
/// group, SIGKILL a little later.
#[derive(Debug)]
pub(super) struct Process(Option<(Child, Group)>);

/// Kills what is left of a process group when dropped.
#[derive(Debug)]
struct Group(Pid);

impl Group {
    /// An error means that there is nobody left in it.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Process {
    /// Takes over a child that leads its own process group.
    pub(super) fn adopt(child: Child) -> io::Result<Self> {
        let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let id = id.ok_or_else(|| io::Error::other("the program has no process id"))?;
        Ok(Self(Some((child, Group(id)))))
    }

    /// Feeds it `input`, listens until it exits, and kills what it leaves behind.
    pub(super) async fn converse(
        mut self,
        input: Vec<u8>,
        max_output: u64,
        mut hear: impl FnMut(Said),
    ) -> Result<Ended, Interrupted> {
        let no_pipe = || Interrupted::Pipe(io::ErrorKind::BrokenPipe.into());
        let (child, _) = self.0.as_mut().ok_or_else(no_pipe)?;
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let stderr = child.stderr.take().ok_or_else(no_pipe)?;

        let mut output = Vec::new();
        let mut listener = Listener::default();
        let status = {
            let talk = async {
                let writing = feed(stdin, input);
                let reading = collect(stdout, &mut output, max_output);
                let listening = follow(stderr, &mut listener, &mut hear);
                tokio::try_join!(writing, reading, listening).map(|_| ())
            };
            tokio::pin!(talk);
            let mut talking = true;
            let status = loop {
                tokio::select! {
                    talked = &mut talk, if talking => { talked?; talking = false; }
                    status = child.wait() => break status.map_err(Interrupted::Pipe)?,
                }
            };
            // The leader is reaped, so its id could be given away again; but ids go round, and that takes a while.
            drop(self.0.take());
            if talking && let Ok(talked) = tokio::time::timeout(LAST_WORDS, &mut talk).await {
                talked?;
            }
            status
        };
        listener.end(&mut hear);
        Ok(Ended { status, output, complaint: listener.complaint() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some((mut child, group)) = self.0.take() else { return };
        group.signal(Signal::TERM);
        // Without a runtime, or when it shuts down, both are dropped before their time, and that kills.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(GRACE, child.wait()).await;
                drop(group);
                let _ = child.wait().await;
            });
        }
    }
}

/// A program may exit, or close its input, without having read it.
async fn feed(mut stdin: ChildStdin, input: Vec<u8>) -> Result<(), Interrupted> {
    match stdin.write_all(&input).await {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Interrupted::Pipe(error)),
        _ => Ok(()),
    }
}

async fn collect(pipe: impl AsyncRead + Unpin, output: &mut Vec<u8>, limit: u64) -> Result<(), Interrupted> {
    let read = pipe.take(limit.saturating_add(1)).read_to_end(output).await.map_err(Interrupted::Pipe)?;
    if read as u64 > limit { Err(Interrupted::OutputTooLarge) } else { Ok(()) }
}

async fn follow(
    mut pipe: impl AsyncRead + Unpin,
    listener: &mut Listener,
    hear: &mut impl FnMut(Said),
) -> Result<(), Interrupted> {
    let mut piece = [0; 4096];
    loop {
        match pipe.read(&mut piece).await.map_err(Interrupted::Pipe)? {
            0 => return Ok(()),
            length => listener.push(&piece[..length], hear),
        }
    }
}
