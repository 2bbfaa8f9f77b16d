//! Writing to standard output: lines, JSON lines, tables. A closed pipe is an error that ends the process quietly.

use std::io::{self, IsTerminal, Write};

/// Writes one line.
pub(crate) fn line(text: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Whether colours are wanted on a stream: it is a terminal, and `NO_COLOR` is not set.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// Rows below a head, in columns as wide as their widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()] }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Lines without trailing spaces. Control characters are shown escaped, so that no cell can move the cursor.
    pub(crate) fn lines(&self) -> Vec<String> {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        let padded = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        };
        rows.iter().map(padded).collect()
    }

    /// Writes it.
    pub(crate) fn print(&self) -> io::Result<()> {
        self.lines().iter().try_for_each(line)
    }
}

/// Text from elsewhere, safe for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let mut table = Table::new(["ID", "STATE"]);
        table.row(["1".into(), "queued".into()]);
        table.row(["größer".into(), "\u{1b}[2J".into()]);
        assert_eq!(table.lines(), ["ID      STATE", "1       queued", "größer  \\u{1b}[2J"]);
    }
}
