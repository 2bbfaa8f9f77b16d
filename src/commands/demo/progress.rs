//! What is going on, on standard error: bars on a terminal, a plain log elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::printable;

/// How often a counting task reports in a plain log, over its whole length.
const PLAIN_REPORTS: u64 = 10;
/// A bar's resolution, for tasks that report a fraction.
const STEPS: u64 = 1000;

/// Where progress is shown.
#[derive(Clone)]
pub(super) struct Progress {
    bars: Option<MultiProgress>,
}

/// Something that is under way.
pub(super) struct Task {
    name: String,
    total: u64,
    bar: Option<ProgressBar>,
    count: AtomicU64,
}

impl Progress {
    /// Bars where standard error is a terminal, unless `TERM` says that it can do nothing.
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { bars: terminal.then(MultiProgress::new) }
    }

    /// A task of so many equal parts.
    pub(super) fn counting(&self, name: &str, total: usize) -> Task {
        self.task(name, total as u64, "{prefix:22} {bar:32} {pos:>4}/{len} {msg}")
    }

    /// A task that tells a fraction.
    pub(super) fn fraction(&self, name: &str) -> Task {
        self.task(name, STEPS, "{prefix:22} {bar:32} {percent:>3} % {msg}")
    }

    fn task(&self, name: &str, total: u64, template: &str) -> Task {
        let bar = self.bars.as_ref().map(|bars| {
            // The templates are the two above: they parse.
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(total).with_style(style.progress_chars("━╸ ")).with_prefix(name.to_owned()))
        });
        if let Some(bar) = &bar {
            bar.tick();
        }
        Task { name: name.to_owned(), total, bar, count: AtomicU64::new(0) }
    }

    /// A writer for log lines that does not tear the bars.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter { bars: self.bars.clone() }
    }
}

impl Task {
    /// One part of it is done.
    pub(super) fn one(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if count.is_multiple_of(self.total.div_ceil(PLAIN_REPORTS)) || count == self.total => {
                plain(format_args!("{}: {count} of {}", self.name, self.total));
            }
            None => {}
        }
    }

    /// It has come this far, 0 to 1.
    pub(super) fn at(&self, fraction: f64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position((fraction.clamp(0.0, 1.0) * STEPS as f64) as u64);
            bar.set_message(printable(message));
        }
    }

    /// It is over.
    pub(super) fn over(&self, message: &str) {
        match &self.bar {
            Some(bar) => {
                if self.total == STEPS {
                    bar.set_position(STEPS);
                }
                bar.abandon_with_message(printable(message));
            }
            None => plain(format_args!("{}: {message}", self.name)),
        }
    }
}

fn plain(text: std::fmt::Arguments<'_>) {
    // Progress is a courtesy: where standard error is gone, the demo goes on.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes above the bars.
#[derive(Clone)]
pub(super) struct LogWriter {
    bars: Option<MultiProgress>,
}

impl Write for LogWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &self.bars {
            Some(bars) => bars.suspend(|| io::stderr().write(buffer)),
            None => io::stderr().write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
