//! What an audit is given: names, lists of ids, the record of the audit before.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use offload_common::audit::Record;
use offload_common::job::JobId;
use offload_common::store::audit::LedgerColumn;
use tempfile::NamedTempFile;

use crate::exit::UsageError;

/// The column that `[SCHEMA.]TABLE.COLUMN` names.
///
/// # Errors
/// [`UsageError`] where it names none.
pub(super) fn ledger(name: &str) -> Result<LedgerColumn, UsageError> {
    let words: Vec<&str> = name.split('.').collect();
    let (schema, table, column) = match words[..] {
        [table, column] => (None, table, column),
        [schema, table, column] => (Some(schema), table, column),
        _ => (Some(""), "", ""),
    };
    if [schema.unwrap_or("-"), table, column].contains(&"") {
        return Err(UsageError(format!("--ledger: `{name}` is not TABLE.COLUMN or SCHEMA.TABLE.COLUMN")));
    }
    Ok(LedgerColumn { schema: schema.map(str::to_owned), table: table.to_owned(), column: column.to_owned() })
}

/// The ids in a file, one per line; `-` is standard input.
///
/// # Errors
/// [`UsageError`] where it cannot be read, or holds something else.
pub(super) fn accepted(file: &Path) -> Result<Vec<JobId>, UsageError> {
    let text =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let text = text.map_err(|error| UsageError(format!("--accepted: {} cannot be read: {error}", file.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let id = |(n, line): (usize, &str)| {
        let problem = |_| UsageError(format!("--accepted: {}:{}: `{line}` is not a job's id", file.display(), n + 1));
        line.trim().parse().map_err(problem)
    };
    lines.map(id).collect()
}

/// What the audit before saw; nothing, where there is no such file yet.
///
/// # Errors
/// [`UsageError`] where it cannot be read, or is something else.
pub(super) fn record(file: &Path) -> Result<Record, UsageError> {
    let bad = |problem: String| UsageError(format!("--state: {}: {problem}", file.display()));
    match std::fs::read_to_string(file) {
        Ok(text) => text.parse().map_err(|error| bad(format!("{error}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(bad(format!("it cannot be read: {error}"))),
    }
}

/// Leaves what this audit saw to the next one: the whole of it, or what was there before.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write_record(file: &Path, record: &Record) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut beside = NamedTempFile::new_in(folder)?;
        write!(beside, "{record}")?;
        beside.persist(file).map_err(|error| error.error).map(drop)
    };
    write().with_context(|| format!("--state: {} cannot be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_a_column_of_a_table() {
        let column = |schema: Option<&str>| LedgerColumn {
            schema: schema.map(str::to_owned),
            table: "t".to_owned(),
            column: "c".to_owned(),
        };
        assert_eq!(ledger("t.c").expect("a column"), column(None));
        assert_eq!(ledger("s.t.c").expect("a column"), column(Some("s")));
        for wrong in ["", "t", "t.", ".c", ".t.c", "d.s.t.c"] {
            assert!(ledger(wrong).is_err(), "{wrong}");
        }
    }
}
