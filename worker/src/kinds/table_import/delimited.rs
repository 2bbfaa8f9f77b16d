//! CSV and TSV (RFC 4180), read in pieces: quoted fields may hold delimiters, quotes and line breaks.

use super::record::{Content, MAX_RECORD, Record};

/// Where reading a file in pieces stands.
#[derive(Debug)]
pub(super) struct Delimited {
    parser: csv_core::Reader,
    /// The physical line that the next byte is on, from 1.
    line: u64,
    /// The line that the record being read began on; `None` between records.
    began: Option<u64>,
    text: Vec<u8>,
    written: usize,
    ends: Vec<usize>,
    fields: usize,
    /// A record was so long that nothing after it can be told apart.
    lost: bool,
}

impl Delimited {
    /// Fields are separated by `delimiter`.
    pub(super) fn new(delimiter: u8) -> Self {
        let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        let (text, ends) = (vec![0; 4096], vec![0; 64]);
        Self { parser, line: 1, began: None, text, written: 0, ends, fields: 0, lost: false }
    }

    /// Takes the next bytes; adds the records that they complete.
    pub(super) fn push(&mut self, mut input: &[u8], records: &mut Vec<Record>) {
        use csv_core::ReadRecordResult::{End, InputEmpty, OutputEndsFull, OutputFull, Record};

        while !self.lost {
            let Some(began) = self.began else {
                // Blank lines, and the second half of a CRLF.
                let skipped = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                self.count(&input[..skipped]);
                input = &input[skipped..];
                if input.is_empty() {
                    return;
                }
                self.began = Some(self.line);
                continue;
            };
            // To the parser, no bytes mean the end of the file.
            if input.is_empty() {
                return;
            }
            let (text, ends) = (&mut self.text[self.written..], &mut self.ends[self.fields..]);
            let (result, read, written, fields) = self.parser.read_record(input, text, ends);
            self.count(&input[..read]);
            input = &input[read..];
            self.written += written;
            self.fields += fields;
            match result {
                InputEmpty | End => {}
                OutputFull if self.text.len() >= MAX_RECORD => {
                    self.lost = true;
                    let problem = format!("longer than {MAX_RECORD} bytes; is a closing quote missing?");
                    records.push(super::record::Record { line: began, content: Err(problem) });
                }
                OutputFull => self.text.resize(self.text.len() * 2, 0),
                OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                Record => records.push(self.complete(began)),
            }
        }
    }

    /// Takes the end of the file.
    pub(super) fn finish(&mut self, records: &mut Vec<Record>) {
        // A last line without a line break gets one; a quoted field that is still open swallows it.
        self.push(b"\n", records);
        if let Some(line) = self.began.filter(|_| !self.lost) {
            let problem = "a quoted field is not closed before the end of the file".to_owned();
            records.push(Record { line, content: Err(problem) });
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    fn complete(&mut self, line: u64) -> Record {
        let mut start = 0;
        let mut cells = Vec::with_capacity(self.fields);
        let mut problem = None;
        for end in &self.ends[..self.fields] {
            match std::str::from_utf8(&self.text[start..*end]) {
                Ok(cell) => cells.push(cell.to_owned()),
                Err(_) => problem = Some("not UTF-8".to_owned()),
            }
            start = *end;
        }
        self.began = None;
        (self.written, self.fields) = (0, 0);
        Record { line, content: problem.map_or(Ok(Content::Cells(cells)), Err) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut reader = Delimited::new(b',');
        let mut records = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut records);
        }
        reader.finish(&mut records);
        let cells = |content| match content {
            Content::Cells(cells) => cells,
            Content::Members(members) => panic!("{members:?}"),
        };
        records.into_iter().map(|record| (record.line, record.content.map(cells))).collect()
    }

    fn row(line: u64, cells: &[&str]) -> (u64, Result<Vec<String>, String>) {
        (line, Ok(cells.iter().map(|cell| (*cell).to_owned()).collect()))
    }

    #[test]
    fn records_know_the_line_they_began_on() {
        let file = b"a,b\r\n1,\"x\ny\"\r\n\r\n2,\"say \"\"hi\"\", ok\"\n\n\n3,\n,4";
        let expected = [
            row(1, &["a", "b"]),
            row(2, &["1", "x\ny"]),
            row(5, &["2", "say \"hi\", ok"]),
            row(8, &["3", ""]),
            row(9, &["", "4"]),
        ];
        assert_eq!(read(&[file]), expected);
        let bytes: Vec<&[u8]> = file.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn broken_records_are_told_with_their_line() {
        assert_eq!(read(&[b"a\n\xff\n2\n"]), [row(1, &["a"]), (2, Err("not UTF-8".to_owned())), row(3, &["2"])]);
        // Two halves of a character in neighbouring cells are no character.
        assert_eq!(read(&[b"\xc3,\xa9\n"]), [(1, Err("not UTF-8".to_owned()))]);
        let open = "a quoted field is not closed before the end of the file".to_owned();
        assert_eq!(read(&[b"a\n\"b\n\nc"]), [row(1, &["a"]), (2, Err(open))]);
        let long = "x".repeat(MAX_RECORD + 1);
        let records = read(&[b"a\n\"", long.as_bytes(), b"\"\nb\n"]);
        assert_eq!((records.len(), records[1].0), (2, 2));
        assert!(records[1].1.as_ref().expect_err("too long").contains("closing quote"));
    }

    #[test]
    fn nothing_is_no_record() {
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[b"", b"\r\n\n"]), []);
    }

    proptest! {
        #[test]
        fn what_a_csv_writer_writes_is_read_back(
            table in proptest::collection::vec(proptest::collection::vec("[a,\"\n\r é🦀]{0,6}", 3), 1..20),
            cut in 1usize..50,
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            for row in &table {
                writer.write_record(row).expect("to memory");
            }
            let file = writer.into_inner().expect("to memory");
            let pieces: Vec<&[u8]> = file.chunks(cut).collect();
            let rows: Vec<Vec<String>> = read(&pieces).into_iter().map(|(_, row)| row.expect("good")).collect();
            prop_assert_eq!(rows, table);
        }

        #[test]
        fn garbage_is_read_the_same_however_it_is_cut(
            file in proptest::collection::vec(proptest::sample::select(b"a,\"\n\r\xff".to_vec()), 0..60),
            cut in 1usize..10,
        ) {
            let pieces: Vec<&[u8]> = file.chunks(cut).collect();
            prop_assert_eq!(read(&pieces), read(&[&file]));
        }
    }
}
