//! A stream cut into lines.

use bytes::{Buf, Bytes, BytesMut};

/// Cuts a body into lines as its pieces arrive.
pub(super) struct Lines {
    rest: BytesMut,
    /// How far the rest has been searched.
    searched: usize,
    number: u64,
    limit: usize,
}

/// A line is longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong {
    /// Which, from 1.
    pub(super) line: u64,
}

impl Lines {
    /// Of lines of at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { rest: BytesMut::new(), searched: 0, number: 0, limit }
    }

    /// Takes a further piece.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next whole line, with its number; blank ones count, and are left out.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Bytes)>, TooLong> {
        loop {
            let end = self.rest[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(end) = end.map(|end| end + self.searched) else {
                self.searched = self.rest.len();
                return if self.rest.len() > self.limit { Err(TooLong { line: self.number + 1 }) } else { Ok(None) };
            };
            let line = self.rest.split_to(end);
            self.rest.advance(1);
            self.searched = 0;
            if let Some(line) = self.number(line.freeze())? {
                return Ok(Some(line));
            }
        }
    }

    /// The last line, if nothing ends it.
    pub(super) fn last(&mut self) -> Result<Option<(u64, Bytes)>, TooLong> {
        let line = self.rest.split().freeze();
        self.searched = 0;
        if line.is_empty() { Ok(None) } else { self.number(line) }
    }

    fn number(&mut self, line: Bytes) -> Result<Option<(u64, Bytes)>, TooLong> {
        self.number += 1;
        if line.len() > self.limit {
            return Err(TooLong { line: self.number });
        }
        Ok((!line.trim_ascii().is_empty()).then_some((self.number, line)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]], limit: u64) -> Result<Vec<(u64, String)>, TooLong> {
        let (mut lines, mut found) = (Lines::new(limit), Vec::new());
        let text = |(n, line): (u64, Bytes)| (n, String::from_utf8_lossy(&line).into_owned());
        for piece in pieces {
            lines.feed(piece);
            while let Some(line) = lines.next()? {
                found.push(text(line));
            }
        }
        found.extend(lines.last()?.map(text));
        Ok(found)
    }

    #[test]
    fn blank_lines_count_and_are_left_out() {
        let found = cut(&[b"a\n\n", b" \r\nb", b"c\r\n\nd"], 9).expect("short");
        assert_eq!(found, [(1, "a".into()), (4, "bc\r".into()), (6, "d".into())]);
        assert_eq!(cut(&[b""], 9), Ok(vec![]));
        assert_eq!(cut(&[b"\n"], 9), Ok(vec![]));
    }

    #[test]
    fn a_line_that_is_too_long_is_named_before_it_ends() {
        assert_eq!(cut(&[b"123\n", b"1234"], 3), Err(TooLong { line: 2 }));
        assert_eq!(cut(&[b"123\n1234\n"], 3), Err(TooLong { line: 2 }));
        assert!(cut(&[b"123\n123"], 3).is_ok());
    }

    #[test]
    fn where_the_pieces_end_makes_no_difference() {
        let text = b"a\n\nbb\r\n \nccc\n\nd";
        let whole = cut(&[text], 9);
        for at in 0..=text.len() {
            let (first, second) = text.split_at(at);
            assert_eq!(cut(&[first, second], 9), whole, "cut at {at}");
        }
        assert_eq!(cut(&text.chunks(1).collect::<Vec<_>>(), 9), whole);
    }
}
