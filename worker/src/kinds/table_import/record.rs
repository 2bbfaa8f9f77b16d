//! Records of a file, whatever its format.

use offload_common::RawJson;
use schemars::JsonSchema;
use serde::Deserialize;

use super::delimited::Delimited;
use super::ndjson::Ndjson;

/// The longest record that is read, in bytes: what an import holds in memory is bounded by it.
pub(super) const MAX_RECORD: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// How the file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// Fields separated by commas, quoted with `"` where needed; the first line names the columns.
    #[default]
    Csv,
    /// As CSV, separated by tabs.
    Tsv,
    /// One JSON object per line; its members are named like the columns.
    Ndjson,
}

/// A record, or what is wrong with it.
#[derive(Debug)]
pub(super) struct Record {
    /// The physical line of the file that it begins on, from 1.
    pub(super) line: u64,
    pub(super) content: Result<Content, String>,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The fields of a line, in order.
    Cells(Vec<String>),
    /// The members of an object.
    Members(Vec<(String, RawJson)>),
}

/// Reads records from the pieces of a file.
#[derive(Debug)]
pub(super) struct Reader {
    /// The first bytes, until there are enough to tell a byte order mark.
    start: Option<Vec<u8>>,
    parser: Parser,
}

#[derive(Debug)]
enum Parser {
    Delimited(Box<Delimited>),
    Ndjson(Ndjson),
}

impl Reader {
    pub(super) fn new(format: Format, delimiter: Option<u8>) -> Self {
        let parser = match format {
            Format::Csv => Parser::Delimited(Box::new(Delimited::new(delimiter.unwrap_or(b',')))),
            Format::Tsv => Parser::Delimited(Box::new(Delimited::new(b'\t'))),
            Format::Ndjson => Parser::Ndjson(Ndjson::default()),
        };
        Self { start: Some(Vec::new()), parser }
    }

    /// Takes the next bytes; answers the records that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        match &mut self.start {
            None => self.parse(bytes, &mut records),
            Some(start) => {
                start.extend_from_slice(bytes);
                if start.len() >= BYTE_ORDER_MARK.len() {
                    self.begin(&mut records);
                }
            }
        }
        records
    }

    /// Takes the end of the file; answers the records that it completes.
    pub(super) fn finish(mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.begin(&mut records);
        match &mut self.parser {
            Parser::Delimited(parser) => parser.finish(&mut records),
            Parser::Ndjson(parser) => parser.finish(&mut records),
        }
        records
    }

    fn begin(&mut self, records: &mut Vec<Record>) {
        let start = self.start.take().unwrap_or_default();
        self.parse(start.strip_prefix(&BYTE_ORDER_MARK).unwrap_or(&start), records);
    }

    fn parse(&mut self, bytes: &[u8], records: &mut Vec<Record>) {
        match &mut self.parser {
            Parser::Delimited(parser) => parser.push(bytes, records),
            Parser::Ndjson(parser) => parser.push(bytes, records),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(format: Format, delimiter: Option<u8>, pieces: &[&[u8]]) -> Vec<Vec<String>> {
        let mut reader = Reader::new(format, delimiter);
        let mut records: Vec<Record> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        records.extend(reader.finish());
        let cells = |record: Record| match record.content.expect("good") {
            Content::Cells(cells) => cells,
            Content::Members(members) => members.into_iter().map(|(name, _)| name).collect(),
        };
        records.into_iter().map(cells).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_content() {
        let expected = vec![vec!["a", "b"]];
        assert_eq!(cells(Format::Csv, None, &[b"\xef\xbb\xbfa,b"]), expected);
        assert_eq!(cells(Format::Csv, None, &[b"\xef", b"\xbb", b"", b"\xbfa", b",b\n"]), expected);
        assert_eq!(cells(Format::Ndjson, None, &[b"\xef\xbb\xbf{\"a\":1,\"b\":2}"]), expected);
        assert_eq!(cells(Format::Csv, None, &[b"a"]), [["a"]]);
        assert_eq!(cells(Format::Csv, None, &[b"\xef\xbb\xbf"]), Vec::<Vec<String>>::new());
    }

    #[test]
    fn the_format_says_what_separates_fields() {
        assert_eq!(cells(Format::Tsv, None, &[b"a,b\tc\n"]), [["a,b", "c"]]);
        assert_eq!(cells(Format::Csv, Some(b';'), &[b"a,b;c\n"]), [["a,b", "c"]]);
    }
}
