//! Records become rows of the table; those that cannot are told by their lines.

use std::mem;

use offload_common::store::Column;

use super::cell;
use super::record::{Content, Record};
use crate::kind::JobError;

/// So many bad rows are told; reading stops there.
const MAX_BAD: usize = 100;

/// A row, with a cell per column.
pub(super) type Row = Vec<Option<String>>;

/// Collects rows that fit a table, until they are taken, and what is wrong with others.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<Column>,
    good: Vec<Row>,
    bytes: usize,
    /// The lines that the first and the last of the good rows begin on.
    lines: (u64, u64),
    bad: Vec<String>,
}

impl Rows {
    pub(super) fn new(columns: Vec<Column>) -> Self {
        Self { columns, good: Vec::new(), bytes: 0, lines: (0, 0), bad: Vec::new() }
    }

    /// Takes one record.
    ///
    /// # Errors
    /// `bad_rows` once there are so many bad ones that reading on is of no use.
    pub(super) fn push(&mut self, record: Record) -> Result<(), JobError> {
        match record.content.and_then(|content| self.row(content)) {
            // The import fails anyway: what is read now is read for its mistakes.
            Ok(_) if !self.bad.is_empty() => {}
            Ok(row) => {
                self.lines.1 = record.line;
                if self.good.is_empty() {
                    self.lines.0 = record.line;
                }
                self.bytes += row.iter().flatten().map(String::len).sum::<usize>();
                self.good.push(row);
            }
            Err(why) => self.bad.push(format!("line {}: {why}", record.line)),
        }
        if self.bad.len() < MAX_BAD { Ok(()) } else { self.check() }
    }

    /// How many rows and bytes there are to take.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.good.len(), self.bytes)
    }

    /// Hands out the rows, with the lines that they came from.
    pub(super) fn take(&mut self) -> (Vec<Row>, (u64, u64)) {
        self.bytes = 0;
        (mem::take(&mut self.good), self.lines)
    }

    /// What they are rows of.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Whether all is well.
    ///
    /// # Errors
    /// `bad_rows`, telling which.
    pub(super) fn check(&self) -> Result<(), JobError> {
        if self.bad.is_empty() {
            return Ok(());
        }
        let count = match self.bad.len() {
            1 => "1 bad row".to_owned(),
            MAX_BAD => format!("{MAX_BAD} bad rows, perhaps more"),
            count => format!("{count} bad rows"),
        };
        Err(JobError::fail("bad_rows", format!("{count}; nothing was imported. {}", self.bad.join("; "))))
    }

    fn row(&self, content: Content) -> Result<Row, String> {
        let named = |column: &Column, outcome: Result<Option<String>, String>| {
            outcome.map_err(|why| format!("column `{}`: {why}", column.name))
        };
        match content {
            Content::Cells(cells) if cells.len() != self.columns.len() => {
                Err(format!("{} fields where the header has {}", cells.len(), self.columns.len()))
            }
            Content::Cells(cells) => {
                let pairs = self.columns.iter().zip(&cells);
                pairs.map(|(column, text)| named(column, cell::from_text(column.kind, text))).collect()
            }
            Content::Members(members) => {
                let known = |name: &str| self.columns.iter().any(|column| column.name == name);
                if let Some((name, _)) = members.iter().find(|(name, _)| !known(name)) {
                    return Err(format!("`{name}` is not a column"));
                }
                let cell = |column: &Column| {
                    // Of members with one name the last counts, as everywhere in JSON.
                    let member = members.iter().rfind(|(name, _)| *name == column.name);
                    named(column, member.map_or(Ok(None), |(_, value)| cell::from_json(column.kind, value)))
                };
                self.columns.iter().map(cell).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::store::ColumnType;

    fn rows() -> Rows {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        Rows::new(vec![column("id", ColumnType::Integer), column("name", ColumnType::Text)])
    }

    fn cells(line: u64, cells: &[&str]) -> Record {
        Record { line, content: Ok(Content::Cells(cells.iter().map(|cell| (*cell).to_owned()).collect())) }
    }

    fn members(line: u64, list: &[(&str, &str)]) -> Record {
        let member = |(name, raw): &(&str, &str)| ((*name).to_owned(), serde_json::from_str(raw).expect("JSON"));
        Record { line, content: Ok(Content::Members(list.iter().map(member).collect())) }
    }

    fn message(outcome: Result<(), JobError>) -> String {
        match outcome.expect_err("bad") {
            JobError::Failed(failure) => {
                assert_eq!(failure.code, "bad_rows");
                failure.message
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn good_records_become_rows() {
        let mut rows = rows();
        rows.push(cells(2, &["1", "one"])).expect("good");
        rows.push(cells(5, &["", ""])).expect("good");
        assert_eq!(rows.size(), (2, 4));
        let expected = vec![vec![Some("1".to_owned()), Some("one".to_owned())], vec![None, Some(String::new())]];
        assert_eq!(rows.take(), (expected, (2, 5)));
        assert_eq!(rows.size(), (0, 0));
        rows.push(members(6, &[("name", "\"six\""), ("id", "5"), ("id", "6")])).expect("good");
        rows.push(members(7, &[])).expect("good");
        let expected = vec![vec![Some("6".to_owned()), Some("six".to_owned())], vec![None, None]];
        assert_eq!(rows.take(), (expected, (6, 7)));
        rows.check().expect("all is well");
    }

    #[test]
    fn bad_records_are_told_by_line() {
        let mut rows = rows();
        rows.push(cells(2, &["x", "one"])).expect("reads on");
        rows.push(cells(3, &["3"])).expect("reads on");
        rows.push(cells(4, &["4", "four"])).expect("reads on");
        rows.push(members(5, &[("nme", "1")])).expect("reads on");
        rows.push(Record { line: 9, content: Err("not UTF-8".to_owned()) }).expect("reads on");
        assert_eq!(rows.size(), (0, 0));
        assert_eq!(
            message(rows.check()),
            "4 bad rows; nothing was imported. line 2: column `id`: `x` is not an integer of 64 bits; \
             line 3: 1 fields where the header has 2; line 5: `nme` is not a column; line 9: not UTF-8"
        );
    }

    #[test]
    fn reading_stops_after_a_hundred() {
        let mut rows = rows();
        for line in 2..101 {
            rows.push(cells(line, &[])).expect("reads on");
        }
        let message = message(rows.push(cells(101, &[])));
        assert!(message.starts_with("100 bad rows, perhaps more") && message.contains("line 101:"), "{message}");
    }
}
