//! What is said over the pipes of a program: the payload in, log lines and progress out.

use std::collections::VecDeque;

/// The longest line that is kept whole, in bytes.
const MAX_LINE: usize = 8 * 1024;

/// How many lines a run may add to the job's log; what follows is only kept for [`Listener::complaint`].
const MAX_LINES: usize = 10_000;

/// How many of the last lines explain a failure.
const COMPLAINT_LINES: usize = 10;

/// Something that a program said on standard error.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// How far it has come, 0 to 1, and what it is doing.
    Progress(f64, String),
    /// Anything else.
    Line(String),
}

/// The payload as one line. JSON has line breaks only between its tokens, where a space is as good.
pub(super) fn input(payload: &str) -> Vec<u8> {
    let mut line = payload.replace(['\n', '\r'], " ").into_bytes();
    line.push(b'\n');
    line
}

/// `progress 0.4 any text`.
fn understand(line: String) -> Said {
    let progress = || {
        let rest = line.strip_prefix("progress ")?.trim_start();
        let (number, message) = rest.split_once(' ').unwrap_or((rest, ""));
        let fraction: f64 = number.parse().ok()?;
        (0.0..=1.0).contains(&fraction).then(|| Said::Progress(fraction, message.trim().to_owned()))
    };
    progress().unwrap_or(Said::Line(line))
}

/// Cuts standard error into lines.
#[derive(Debug, Default)]
pub(super) struct Listener {
    line: Vec<u8>,
    cut: bool,
    lines: usize,
    last: VecDeque<String>,
}

impl Listener {
    /// Takes the next bytes; tells `hear` of each line that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], hear: &mut impl FnMut(Said)) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        // The piece after the last line break, or all of it without one, is not complete yet.
        let rest = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.extend(piece);
            self.finish(hear);
        }
        self.extend(rest);
    }

    /// Takes what is left as a line.
    pub(super) fn end(&mut self, hear: &mut impl FnMut(Said)) {
        if !self.line.is_empty() {
            self.finish(hear);
        }
    }

    /// The last lines that were no progress.
    pub(super) fn complaint(self) -> String {
        Vec::from(self.last).join("\n")
    }

    fn extend(&mut self, piece: &[u8]) {
        let room = MAX_LINE - self.line.len();
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.cut |= piece.len() > room;
    }

    fn finish(&mut self, hear: &mut impl FnMut(Said)) {
        let mut line = String::from_utf8_lossy(&self.line).replace('\0', "\u{fffd}");
        line.truncate(line.trim_end().len());
        if self.cut {
            line.push('…');
        }
        self.line.clear();
        self.cut = false;
        match understand(line) {
            Said::Line(line) => self.log(line, hear),
            progress => hear(progress),
        }
    }

    fn log(&mut self, line: String, hear: &mut impl FnMut(Said)) {
        if self.last.len() == COMPLAINT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.clone());
        self.lines += 1;
        if self.lines < MAX_LINES {
            hear(Said::Line(line));
        } else if self.lines == MAX_LINES {
            hear(Said::Line(format!("the log of a run ends after {MAX_LINES} lines; what follows is dropped")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(pieces: &[&[u8]]) -> (Vec<Said>, String) {
        let mut said = Vec::new();
        let mut listener = Listener::default();
        for piece in pieces {
            listener.push(piece, &mut |what| said.push(what));
        }
        listener.end(&mut |what| said.push(what));
        (said, listener.complaint())
    }

    fn line(text: &str) -> Said {
        Said::Line(text.to_owned())
    }

    #[test]
    fn the_payload_is_one_line() {
        assert_eq!(input("{\r\n  \"a\": \"\\n\"\n}"), b"{    \"a\": \"\\n\" }\n");
    }

    #[test]
    fn progress_is_told_from_the_rest() {
        for (text, expected) in [
            ("progress 0.4 reading", Said::Progress(0.4, "reading".to_owned())),
            ("progress 1", Said::Progress(1.0, String::new())),
            ("progress  0  two  words ", Said::Progress(0.0, "two  words".to_owned())),
            ("progress 1.5 too far", line("progress 1.5 too far")),
            ("progress -1 x", line("progress -1 x")),
            ("progress NaN x", line("progress NaN x")),
            ("progress is slow", line("progress is slow")),
            ("progress", line("progress")),
            ("in progress 0.5", line("in progress 0.5")),
        ] {
            assert_eq!(understand(text.to_owned()), expected, "{text}");
        }
    }

    #[test]
    fn lines_end_at_line_breaks_wherever_the_pieces_do() {
        let (said, complaint) = heard(&[b"on", b"e\ntwo\r\n\nprogress 0.5 x\nth", b"ree\0\xff"]);
        let progress = Said::Progress(0.5, "x".to_owned());
        assert_eq!(said, [line("one"), line("two"), line(""), progress, line("three\u{fffd}\u{fffd}")]);
        assert_eq!(complaint, "one\ntwo\n\nthree\u{fffd}\u{fffd}");
    }

    #[test]
    fn long_lines_and_long_logs_are_cut() {
        let (said, _) = heard(&["x".repeat(MAX_LINE + 1).as_bytes(), b"yyy\n", "z".repeat(MAX_LINE).as_bytes(), b"\n"]);
        assert_eq!(said, [line(&("x".repeat(MAX_LINE) + "…")), line(&"z".repeat(MAX_LINE))]);
        let (said, complaint) = heard(&["line\n".repeat(MAX_LINES + 50).as_bytes(), b"last\n"]);
        assert_eq!(said.len(), MAX_LINES);
        assert!(complaint.ends_with("line\nlast") && complaint.lines().count() == COMPLAINT_LINES);
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(text in "[a-c\n]{0,200}", cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(heard(&pieces), heard(&[text.as_bytes()]));
        }
    }
}
