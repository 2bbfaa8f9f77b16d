//! Starting programs, on a thread of its own that lives as long as this process.
//!
//! Linux can kill a child when its parent dies, and by parent it means the *thread* that started it. Threads of a pool
//! come and go; this one stays, so its end is the worker's. It also keeps a slow `fork` off the async threads.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::process::Process;

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Address space in bytes, for it and for each of its children.
    pub(super) memory: Option<u64>,
}

struct Order {
    command: Command,
    limits: Limits,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Process>>,
}

/// Starts a program in a process group of its own, limited, and killed if this process dies.
pub(super) async fn spawn(command: Command, limits: Limits) -> io::Result<Process> {
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = match ORDERS.get() {
        Some(orders) => orders,
        None => {
            let fresh = start_thread()?;
            ORDERS.get_or_init(|| fresh)
        }
    };
    let (reply, answer) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts programs is gone");
    orders.send(Order { command, limits, runtime: Handle::current(), reply }).map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// The thread ends when its sender is dropped: at once for the loser of a race to start it, else never.
fn start_thread() -> io::Result<Sender<Order>> {
    let (sender, orders) = channel::<Order>();
    let thread = std::thread::Builder::new().name("exec-spawner".to_owned());
    thread.spawn(move || {
        for order in orders {
            let runtime = order.runtime.clone();
            let _inside = runtime.enter();
            let Order { command, limits, reply, .. } = order;
            // Without this thread no program could be started any more: a panic costs its own order an answer.
            if let Ok(started) = catch_unwind(AssertUnwindSafe(|| start(command, limits))) {
                // Whoever asked may be gone by now; then the process is dropped here, which ends it.
                let _ = reply.send(started);
            }
        }
    })?;
    Ok(sender)
}

fn start(mut command: Command, limits: Limits) -> io::Result<Process> {
    command.process_group(0).kill_on_drop(true);
    let parent = rustix::process::getpid();
    let prepare = move || {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        if let Some(bytes) = limits.memory {
            setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
        }
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before that.
            if rustix::process::getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe things may happen: `prepare` makes system calls and compares
    // numbers; it neither allocates nor locks, and what it captured is plain data.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    Process::adopt(command.spawn()?)
}
