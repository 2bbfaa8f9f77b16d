//! NDJSON, read in pieces: one JSON object per line.

use std::fmt;

use offload_common::RawJson;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::record::{Content, MAX_RECORD, Record};

/// Where reading a file in pieces stands.
#[derive(Debug, Default)]
pub(super) struct Ndjson {
    /// How many lines are complete.
    lines: u64,
    line: Vec<u8>,
    too_long: bool,
}

impl Ndjson {
    /// Takes the next bytes; adds the records that they complete.
    pub(super) fn push(&mut self, bytes: &[u8], records: &mut Vec<Record>) {
        let mut pieces = bytes.split(|byte| *byte == b'\n');
        // The piece after the last line break, or all of it without one, is not complete yet.
        let rest = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.extend(piece);
            self.complete(records);
        }
        self.extend(rest);
    }

    /// Takes the end of the file.
    pub(super) fn finish(&mut self, records: &mut Vec<Record>) {
        self.complete(records);
    }

    fn extend(&mut self, piece: &[u8]) {
        let room = MAX_RECORD - self.line.len();
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.too_long |= piece.len() > room;
    }

    fn complete(&mut self, records: &mut Vec<Record>) {
        self.lines += 1;
        if !self.line.trim_ascii().is_empty() {
            let content = if self.too_long {
                Err(format!("longer than {MAX_RECORD} bytes"))
            } else {
                let members = serde_json::from_slice::<Members>(&self.line);
                members.map(|members| Content::Members(members.0)).map_err(|error| not_an_object(&error))
            };
            records.push(Record { line: self.lines, content });
        }
        self.line.clear();
        self.too_long = false;
    }
}

/// What serde_json says ends in its own count of lines, which is always 1 here.
fn not_an_object(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    format!("not a JSON object: {said} at column {}", error.column())
}

/// The members of an object, in the order of the file.
struct Members(Vec<(String, RawJson)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(u64, Result<String, String>)> {
        let mut reader = Ndjson::default();
        let mut records = Vec::new();
        for piece in pieces {
            reader.push(piece, &mut records);
        }
        reader.finish(&mut records);
        let shown = |content| match content {
            Content::Members(members) => {
                members.iter().map(|(name, value)| format!("{name}={};", value.get())).collect::<String>()
            }
            Content::Cells(cells) => panic!("{cells:?}"),
        };
        records.into_iter().map(|record| (record.line, record.content.map(shown))).collect()
    }

    #[test]
    fn each_line_is_an_object() {
        let file = "{\"b\": 1.50, \"a\": \"x\\ny\"}\r\n\n  \n{}\n{\"é\":null}".as_bytes();
        let expected =
            [(1, Ok("b=1.50;a=\"x\\ny\";".to_owned())), (4, Ok(String::new())), (5, Ok("é=null;".to_owned()))];
        assert_eq!(read(&[file]), expected);
        let bytes: Vec<&[u8]> = file.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
        assert_eq!(read(&[]), []);
    }

    #[test]
    fn what_is_no_object_is_told_with_its_line() {
        let records = read(&[b"{\"a\":1}\n[1]\n{\"a\":\n{\"a\":1} x\n\"\xff\"\n{}"]);
        let bad: Vec<u64> = records.iter().filter(|(_, content)| content.is_err()).map(|(line, _)| *line).collect();
        assert_eq!(bad, [2, 3, 4, 5]);
        assert!(records.iter().filter_map(|(_, content)| content.as_ref().err()).all(|why| !why.contains("line")));
        let long = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(MAX_RECORD));
        assert!(matches!(&read(&[long.as_bytes()])[..], [(1, Err(_)), (2, Ok(_))]));
    }
}
