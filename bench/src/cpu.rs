//! Where the time goes: processor time by program, from `/proc`. Servers on other machines are not seen.

use std::fs;

use serde::{Deserialize, Serialize};

/// `/proc` counts in hundredths of a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor seconds so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    api: f64,
    workers: f64,
    postgres: f64,
    rabbitmq: f64,
    bench: f64,
}

/// Microseconds of processor time per job.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct CpuPerJob {
    pub(crate) api: f64,
    pub(crate) workers: f64,
    pub(crate) postgres: f64,
    pub(crate) rabbitmq: f64,
    /// The load generator; for the floor, the floor itself.
    pub(crate) bench: f64,
}

impl Cpu {
    /// Reads what everybody has used. `None` where there is no `/proc`.
    pub(crate) fn read(api: &[u32], workers: &[u32]) -> Option<Self> {
        let own = of_process(std::process::id())?;
        let sum = |pids: &[u32]| pids.iter().filter_map(|pid| of_process(*pid)).sum();
        let (postgres, rabbitmq) = (of_programs("postgres"), of_programs("beam.smp"));
        Some(Self { api: sum(api), workers: sum(workers), postgres, rabbitmq, bench: own })
    }

    /// What each of so many jobs cost since then.
    pub(crate) fn per_job(self, since: Self, jobs: usize) -> CpuPerJob {
        let each = |now: f64, then: f64| (now - then) / jobs.max(1) as f64 * 1e6;
        CpuPerJob {
            api: each(self.api, since.api),
            workers: each(self.workers, since.workers),
            postgres: each(self.postgres, since.postgres),
            rabbitmq: each(self.rabbitmq, since.rabbitmq),
            bench: each(self.bench, since.bench),
        }
    }
}

fn of_process(pid: u32) -> Option<f64> {
    Some(seconds(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?.0)
}

/// All processes of this name, with their children that have ended.
fn of_programs(name: &str) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let named = stats.filter(|stat| stat.contains(&format!("({name})")));
    named.filter_map(|stat| seconds(&stat)).map(|(own, children)| own + children).sum()
}

/// Of a line of `/proc/PID/stat`: the seconds of the process itself, and of its children that have ended.
fn seconds(stat: &str) -> Option<(f64, f64)> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND, (ticks(13)? + ticks(14)?) / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_program_is_called() {
        let line = "12 (a) b (c)) S 1 12 12 0 -1 4194304 100 0 0 0 250 50 30 20 20 0 1 0 100 0 0";
        assert_eq!(seconds(line), Some((3.0, 0.5)));
        assert_eq!(seconds("nonsense"), None);
    }
}
