//! What a handler says while it runs, until it is written: bounded, so that a chatty handler costs no memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use offload_common::clock;
use offload_common::job::{Lease, Progress};
use offload_common::store::{Report, Saying, Utterance};
use tokio::sync::Notify;

use crate::text::presentable;

// Utterances, and bytes of them, that may wait to be written: more than a patient handler writes in a quarter of a second.
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
    // The newest; it has its place among the lines once it is taken, and what was sent once is sent again as it was.
    progress: Option<Progress>,
    said: VecDeque<Utterance>,
    bytes: usize,
    lines: u32,
    // The number of the last utterance.
    last: u32,
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
        if waiting.lines > MOST_LINES {
            return;
        }
        waiting.lines += 1;
        let line = if waiting.lines <= MOST_LINES {
            Saying::Line { level, message: presentable(message) }
        } else {
            note(format!("the log ends here: a run may write {MOST_LINES} lines"))
        };
        waiting.say(line);
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
        if let Some(progress) = waiting.progress.take() {
            waiting.say(Saying::Progress(progress));
        }
        waiting.bytes = 0;
        let mut said = std::mem::take(&mut waiting.said);
        let dropped = std::mem::take(&mut waiting.dropped);
        if let Some(first) = said.front().filter(|_| dropped > 0) {
            // It takes the number of the last line that it stands for.
            let what = note(format!("{dropped} lines were written too fast to keep"));
            said.push_front(Utterance { n: first.n.saturating_sub(1), at: first.at, what });
        }
        waiting.in_flight = !said.is_empty();
        waiting.in_flight.then(|| Report { lease, said: said.into() })
    }

    /// What was taken has been written, or is given up.
    pub(crate) fn written(&self) {
        self.lock().in_flight = false;
    }

    /// Puts back what could not be written, before what came meanwhile.
    pub(crate) fn put_back(&self, report: Report) {
        let mut waiting = self.lock();
        waiting.in_flight = false;
        for said in report.said.into_iter().rev() {
            waiting.bytes += said.what.text().len();
            waiting.said.push_front(said);
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
        self.progress.is_none() && self.said.is_empty()
    }

    fn say(&mut self, what: Saying) {
        self.last += 1;
        self.bytes += what.text().len();
        self.said.push_back(Utterance { n: self.last, at: clock::now(), what });
    }

    fn make_room(&mut self) {
        while self.said.len() > MOST_WAITING || self.bytes > MOST_WAITING_BYTES {
            let Some(oldest) = self.said.pop_front() else { break };
            self.bytes -= oldest.what.text().len();
            self.dropped += u32::from(matches!(oldest.what, Saying::Line { .. }));
        }
    }
}

fn note(message: String) -> Saying {
    Saying::Line { level: "warn", message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::job::{JobId, Nonce, WorkerId};

    fn lease() -> Lease {
        Lease { job: JobId::new(), epoch: 1, worker: WorkerId::new(), nonce: Nonce(1), claimed: true }
    }

    fn texts(report: Report) -> Vec<(u32, String)> {
        let text = |what| if let Saying::Line { message, .. } = what { Some(message) } else { None };
        report.said.into_iter().filter_map(|said| Some((said.n, text(said.what)?))).collect()
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
        assert_eq!(report.progress(), Some(&Progress { fraction: 1.0, message: None }));
        assert_eq!(report.said.last().map(|said| said.n), Some(3), "progress has its place among the lines");
        assert_eq!(texts(report), [(1, "one".into()), (2, "t\u{fffd}wo".into())]);
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
        reports.put_back(failed.clone());
        let report = reports.take(lease()).expect("said something");
        assert_eq!(report.progress().map(|p| p.fraction), Some(0.2));
        // It may have been written after all: then it is recognised.
        assert_eq!(report.said[..2], failed.said);
        assert_eq!(texts(report), [(1, "one".into()), (3, "two".into())]);
    }

    #[test]
    fn too_many_lines_make_room_from_the_oldest_with_a_note() {
        let reports = Reports::default();
        (0..MOST_WAITING + 5).for_each(|n| reports.line("info", n.to_string()));
        let lines = texts(reports.take(lease()).expect("said something"));
        assert_eq!(lines[0], (5, "5 lines were written too fast to keep".into()));
        assert_eq!(lines[1], (6, "5".into()));
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
