//! What a process takes of its machine.

use std::fs;

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
