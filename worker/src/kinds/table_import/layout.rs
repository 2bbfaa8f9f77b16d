//! Which columns a file fills: its own head, what the payload declares and what the table has must agree.

use std::collections::HashSet;

use offload_common::store::{Column, ColumnType};

use super::name;
use super::record::Content;
use crate::kind::JobError;

/// The columns that the head of the file speaks of: the fields of its first line, or the members of its first object,
/// unless the payload declares which members count.
pub(super) fn head(first: &Content, declared: Option<&[Column]>) -> Result<Vec<String>, JobError> {
    let names: Vec<String> = match (first, declared) {
        (Content::Cells(cells), _) => cells.iter().map(|cell| cell.trim().to_owned()).collect(),
        (Content::Members(_), Some(declared)) => declared.iter().map(|column| column.name.clone()).collect(),
        (Content::Members(members), None) => members.iter().map(|(name, _)| name.clone()).collect(),
    };
    distinct(names.iter().map(String::as_str))?;
    Ok(names)
}

/// The columns to create a table with: as declared, else all text.
pub(super) fn to_create(head: &[String], declared: Option<&[Column]>) -> Result<Vec<Column>, JobError> {
    match declared {
        Some(declared) => {
            distinct(declared.iter().map(|column| column.name.as_str()))?;
            Ok(declared.to_vec())
        }
        None => Ok(head.iter().map(|name| Column { name: name.clone(), kind: ColumnType::Text }).collect()),
    }
}

/// The columns that the file fills, in the order of its head, with the types of the table.
pub(super) fn fit(head: &[String], declared: Option<&[Column]>, table: &[Column]) -> Result<Vec<Column>, JobError> {
    if let Some(declared) = declared {
        let missing = declared.iter().filter(|column| !head.contains(&column.name));
        none_of("the file has no column", missing.map(|column| column.name.clone()))?;
        let undeclared = head.iter().filter(|name| !declared.iter().any(|column| column.name == **name));
        none_of("`columns` does not declare", undeclared.cloned())?;
        let otherwise = declared.iter().filter_map(|column| {
            let there = table.iter().find(|there| there.name == column.name && there.kind != column.kind)?;
            Some(format!("{} ({:?}, not {:?})", column.name, there.kind, column.kind).to_lowercase())
        });
        none_of("the table has another type for", otherwise)?;
    }
    let of_table = |name: &String| table.iter().find(|column| column.name == *name);
    let unknown = head.iter().filter(|name| of_table(name).is_none());
    none_of("the table has no column", unknown.cloned())?;
    Ok(head.iter().filter_map(of_table).cloned().collect())
}

fn none_of(what: &str, names: impl Iterator<Item = String>) -> Result<(), JobError> {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { Ok(()) } else { Err(mismatch(format!("{what} {}", names.join(", ")))) }
}

fn distinct<'n>(names: impl Iterator<Item = &'n str>) -> Result<(), JobError> {
    let mut seen = HashSet::new();
    for column in names {
        name::identifier(column).map_err(|why| mismatch(format!("a column of the file or of `columns`: {why}")))?;
        if !seen.insert(column) {
            return Err(mismatch(format!("column `{column}` is there twice")));
        }
    }
    if seen.is_empty() { Err(mismatch("there are no columns".to_owned())) } else { Ok(()) }
}

fn mismatch(message: String) -> JobError {
    JobError::fail("columns_mismatch", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{Integer, Text};

    fn columns(list: &[(&str, ColumnType)]) -> Vec<Column> {
        list.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: *kind }).collect()
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn message(error: JobError) -> String {
        match error {
            JobError::Failed(failure) => {
                assert_eq!(failure.code, "columns_mismatch");
                failure.message
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_may_order_and_leave_out_columns_of_the_table() {
        let table = columns(&[("id", Integer), ("name", Text), ("note", Text)]);
        let fitted = fit(&names(&["name", "id"]), None, &table).expect("fits");
        assert_eq!(fitted, columns(&[("name", Text), ("id", Integer)]));
        let declared = columns(&[("id", Integer), ("name", Text)]);
        assert_eq!(fit(&names(&["name", "id"]), Some(&declared), &table).expect("fits"), fitted);
    }

    #[test]
    fn a_mismatch_names_the_columns() {
        let table = columns(&[("id", Integer), ("name", Text)]);
        let declared = columns(&[("id", Integer), ("name", Text)]);
        for (head, declared, expected) in [
            (&["id", "nme", "x"][..], None, "the table has no column `nme`, `x`"),
            (&["id"], Some(&declared), "the file has no column `name`"),
            (&["id", "name", "x"], Some(&declared), "`columns` does not declare `x`"),
            (&["id"], Some(&columns(&[("id", Text)])), "the table has another type for `id (integer, not text)`"),
        ] {
            let error = fit(&names(head), declared.map(Vec::as_slice), &table).expect_err("does not fit");
            assert_eq!(message(error), expected);
        }
    }

    #[test]
    fn heads_are_checked() {
        let cells = |list: &[&str]| Content::Cells(names(list));
        assert_eq!(head(&cells(&[" a ", "b"]), None), Ok(names(&["a", "b"])));
        assert!(message(head(&cells(&["a", "a"]), None).expect_err("twice")).contains("`a` is there twice"));
        assert!(message(head(&cells(&["a", ""]), None).expect_err("empty")).contains("empty"));
        assert!(message(head(&cells(&["x".repeat(64).as_str()]), None).expect_err("long")).contains("longer"));
        assert!(message(head(&Content::Members(vec![]), None).expect_err("none")).contains("no columns"));
        let twice = columns(&[("a", Text), ("a", Integer)]);
        assert!(message(to_create(&[], Some(&twice)).expect_err("twice")).contains("twice"));
    }

    #[test]
    fn a_table_is_created_as_declared_or_as_text() {
        let declared = columns(&[("b", Integer), ("a", Text)]);
        assert_eq!(to_create(&names(&["a", "b"]), Some(&declared)).as_ref(), Ok(&declared));
        assert_eq!(to_create(&names(&["a", "b"]), None), Ok(columns(&[("a", Text), ("b", Text)])));
    }
}
