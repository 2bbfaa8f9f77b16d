//! What a process takes of its machine.

use std::fs;
use std::time::Duration;

/// What `/proc` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Its threads.
    pub(crate) threads: usize,
    /// Its open files, sockets included.
    pub(crate) files: usize,
    /// Its resident memory, in KiB.
    pub(crate) resident: usize,
}

impl Footprint {
    /// Of this process.
    pub(crate) fn of(process: u32) -> Self {
        let entries = |folder: &str| fs::read_dir(format!("/proc/{process}/{folder}")).expect("it runs").count();
        let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let resident = resident.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number");
        Self { threads: entries("task"), files: entries("fd"), resident }
    }
}

/// How long a process has been at work.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // What is in brackets, its name, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks =
        |place: usize| fields.split_whitespace().nth(place).and_then(|text| text.parse::<u64>().ok()).expect("ticks");
    // In user mode and in the kernel's. The kernel counts a hundred a second for every program (proc(5), USER_HZ).
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
