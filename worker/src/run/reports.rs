//! What a handler says while it runs, until it is written: bounded, so that a chatty handler costs no memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use offload_common::clock;
use offload_common::job::{Lease, Progress};
use offload_common::store::{Report, ReportedLine};
use tokio::sync::Notify;

use crate::text::presentable;

// Lines, and bytes of them, that may wait to be written: more than a patient handler writes in a quarter of a second.
const MOST_WAITING: usize = 1_000;
const MOST_WAITING_BYTES: usize = 1 << 20;
// Lines per run.
const MOST_LINES: u32 = 10_000;

/// What a handler has said and the store does not know yet.
#[derive(Default)]
pub(crate) struct Reports {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    progress: Option<Progress>,
    lines: VecDeque<ReportedLine>,
    bytes: usize,
    next: u32,
    // Lines that made room for newer ones, since the last that were taken.
    dropped: u32,
    // Whether what was taken last is still being written.
    in_flight: bool,
}

impl Reports {
    /// The newest progress; the one before it is forgotten.
    pub(crate) fn progress(&self, fraction: f64, message: String) {
        let fraction = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        let message = Some(presentable(message)).filter(|message| !message.is_empty());
        self.lock().progress = Some(Progress { fraction, message });
        self.arrived.notify_one();
    }

    /// One more line.
    pub(crate) fn line(&self, level: &'static str, message: String) {
        let mut waiting = self.lock();
        let n = waiting.next;
        if n > MOST_LINES {
            return;
        }
        waiting.next += 1;
        let line = if n < MOST_LINES {
            ReportedLine { n, at: clock::now(), level, message: presentable(message) }
        } else {
            note(n, format!("the log ends here: a run may write {MOST_LINES} lines"))
        };
        waiting.bytes += line.message.len();
        waiting.lines.push_back(line);
        waiting.make_room();
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Waits until something is there.
    pub(crate) async fn arrived(&self) {
        while self.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Whether the store knows all.
    pub(crate) fn is_settled(&self) -> bool {
        let waiting = self.lock();
        waiting.is_empty() && !waiting.in_flight
    }

    /// Takes what waits, to write it under `lease`; then says [`Reports::written`] or [`Reports::put_back`]. One writer at
    /// a time.
    pub(crate) fn take(&self, lease: Lease) -> Option<Report> {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        let (progress, mut lines) = (waiting.progress.take(), std::mem::take(&mut waiting.lines));
        let dropped = std::mem::take(&mut waiting.dropped);
        if let Some(first) = lines.front().filter(|_| dropped > 0) {
            // It takes the number of the last line that it stands for.
            lines.push_front(note(first.n.saturating_sub(1), format!("{dropped} lines were written too fast to keep")));
        }
        let said_something = progress.is_some() || !lines.is_empty();
        waiting.in_flight = said_something;
        said_something.then(|| Report { lease, progress, lines: lines.into() })
    }

    /// What was taken has been written, or is given up.
    pub(crate) fn written(&self) {
        self.lock().in_flight = false;
    }

    /// Puts back what could not be written, before what came meanwhile.
    pub(crate) fn put_back(&self, report: Report) {
        let mut waiting = self.lock();
        waiting.in_flight = false;
        if waiting.progress.is_none() {
            waiting.progress = report.progress;
        }
        for line in report.lines.into_iter().rev() {
            waiting.bytes += line.message.len();
            waiting.lines.push_front(line);
        }
        waiting.make_room();
        drop(waiting);
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing here panics half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.progress.is_none() && self.lines.is_empty()
    }

    fn make_room(&mut self) {
        while self.lines.len() > MOST_WAITING || self.bytes > MOST_WAITING_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.message.len();
            self.dropped += 1;
        }
    }
}

fn note(n: u32, message: String) -> ReportedLine {
    ReportedLine { n, at: clock::now(), level: "warn", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::{JobId, Nonce, WorkerId};

    fn lease() -> Lease {
        Lease { job: JobId::new(), epoch: 1, worker: WorkerId::new(), nonce: Nonce(1), claimed: true }
    }

    fn texts(report: Report) -> Vec<(u32, String)> {
        report.lines.into_iter().map(|line| (line.n, line.message)).collect()
    }

    #[test]
    fn the_newest_progress_and_every_line_are_taken_once() {
        let reports = Reports::default();
        assert!(reports.take(lease()).is_none());
        reports.progress(0.1, "a".into());
        reports.progress(7.0, String::new());
        reports.line("info", "one".into());
        reports.line("warn", "t\0wo".into());
        let report = reports.take(lease()).expect("said something");
        assert_eq!(report.progress, Some(Progress { fraction: 1.0, message: None }));
        assert_eq!(texts(report), [(0, "one".into()), (1, "t\u{fffd}wo".into())]);
        assert!(!reports.is_settled(), "it is being written");
        reports.written();
        assert!(reports.is_settled() && reports.take(lease()).is_none());
    }

    #[test]
    fn what_could_not_be_written_comes_before_what_came_meanwhile() {
        let reports = Reports::default();
        reports.progress(0.1, String::new());
        reports.line("info", "one".into());
        let failed = reports.take(lease()).expect("said something");
        reports.progress(0.2, String::new());
        reports.line("info", "two".into());
        reports.put_back(failed);
        let report = reports.take(lease()).expect("said something");
        assert_eq!(report.progress.as_ref().map(|p| p.fraction), Some(0.2));
        assert_eq!(texts(report), [(0, "one".into()), (1, "two".into())]);
    }

    #[test]
    fn too_many_lines_make_room_from_the_oldest_with_a_note() {
        let reports = Reports::default();
        (0..MOST_WAITING + 5).for_each(|n| reports.line("info", n.to_string()));
        let lines = texts(reports.take(lease()).expect("said something"));
        assert_eq!(lines[0], (4, "5 lines were written too fast to keep".into()));
        assert_eq!(lines[1], (5, "5".into()));
        assert_eq!(lines.len(), MOST_WAITING + 1);
    }

    #[test]
    fn a_run_that_never_stops_talking_is_cut_off() {
        let reports = Reports::default();
        let mut lines = Vec::new();
        for _ in 0..MOST_LINES + 50 {
            reports.line("info", "x".into());
            lines.extend(reports.take(lease()).map(texts).unwrap_or_default());
        }
        assert_eq!(lines.len() as u32, MOST_LINES + 1);
        assert!(lines.last().is_some_and(|(_, text)| text.starts_with("the log ends here")));
    }
}
