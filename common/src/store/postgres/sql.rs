//! SQL text made from what handlers name: identifiers, literals, types, and the text format of `COPY`.

use crate::store::{ColumnType, Error, Result, TableName};

/// A quoted identifier.
pub(super) fn identifier(name: &str) -> Result<String> {
    if name.is_empty() || name.contains('\0') {
        return Err(Error::Rejected(format!("{name:?} is not a name that PostgreSQL can keep")));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

/// A quoted `schema.table`.
pub(super) fn qualified(table: &TableName) -> Result<String> {
    Ok(format!("{}.{}", identifier(&table.schema)?, identifier(&table.table)?))
}

/// A quoted literal that reads the same whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::Rejected("PostgreSQL keeps no text with a NUL character in it".into()));
    }
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") })
}

/// Whether the statement would begin or end a transaction.
pub(super) fn is_transaction_control(sql: &str) -> bool {
    let word: String = without_comments(sql).chars().take_while(char::is_ascii_alphabetic).collect();
    let controls = ["begin", "start", "commit", "end", "rollback", "abort"];
    controls.contains(&word.to_ascii_lowercase().as_str())
}

/// The statement from its first word on.
fn without_comments(sql: &str) -> &str {
    let sql = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
    if let Some(line) = sql.strip_prefix("--") {
        return line.split_once('\n').map_or("", |(_, rest)| without_comments(rest));
    }
    if !sql.starts_with("/*") {
        return sql;
    }
    // Block comments nest.
    let (mut depth, mut rest) = (0, sql);
    loop {
        if let Some(inner) = rest.strip_prefix("/*") {
            (depth, rest) = (depth + 1, inner);
        } else if let Some(outer) = rest.strip_prefix("*/") {
            (depth, rest) = (depth - 1, outer);
        } else {
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return "";
            }
            rest = chars.as_str();
        }
        if depth == 0 {
            return without_comments(rest);
        }
    }
}

/// What a column of an imported table is made as.
pub(super) const fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text",
        ColumnType::Integer => "bigint",
        ColumnType::Float => "double precision",
        ColumnType::Numeric => "numeric",
        ColumnType::Boolean => "boolean",
        ColumnType::Date => "date",
        ColumnType::Timestamp => "timestamptz",
        ColumnType::Json => "jsonb",
    }
}

/// What a column of any table holds, by the name of its type in `pg_type`. What has no counterpart is given and taken as
/// text.
pub(super) fn column_type(name: &str) -> ColumnType {
    match name {
        "int2" | "int4" | "int8" => ColumnType::Integer,
        "float4" | "float8" => ColumnType::Float,
        "numeric" => ColumnType::Numeric,
        "bool" => ColumnType::Boolean,
        "date" => ColumnType::Date,
        "timestamp" | "timestamptz" => ColumnType::Timestamp,
        "json" | "jsonb" => ColumnType::Json,
        _ => ColumnType::Text,
    }
}

/// Rows in the text format of `COPY`: <https://www.postgresql.org/docs/current/sql-copy.html>.
pub(super) fn copy_text(rows: &[Vec<Option<String>>]) -> String {
    let mut text = String::new();
    for row in rows {
        for (n, cell) in row.iter().enumerate() {
            if n > 0 {
                text.push('\t');
            }
            match cell {
                None => text.push_str("\\N"),
                Some(cell) => escape(cell, &mut text),
            }
        }
        text.push('\n');
    }
    text
}

fn escape(cell: &str, text: &mut String) {
    let mut plain = 0;
    for (at, special) in cell.match_indices(['\\', '\n', '\r', '\t']) {
        text.push_str(&cell[plain..at]);
        text.push('\\');
        text.push(match special {
            "\n" => 'n',
            "\r" => 'r',
            "\t" => 't',
            _ => '\\',
        });
        plain = at + special.len();
    }
    text.push_str(&cell[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_handlers_name_stays_inside_its_quotes() {
        assert_eq!(identifier("a\"b").expect("a name"), "\"a\"\"b\"");
        assert!(identifier("").is_err() && identifier("a\0").is_err());
        assert_eq!(literal("it's").expect("text"), "'it''s'");
        assert_eq!(literal("\\'; --").expect("text"), "E'\\\\''; --'");
        assert!(literal("a\0b").is_err());
        let table = TableName { schema: "Public".into(), table: "x.y".into() };
        assert_eq!(qualified(&table).expect("a name"), "\"Public\".\"x.y\"");
    }

    #[test]
    fn transaction_control_is_found_behind_comments() {
        for sql in
            ["COMMIT", " ; rollback", "-- x\nBegin", "/* a /* b */ c */ end", "START TRANSACTION", "/**/--\n/*;*/abort"]
        {
            assert!(is_transaction_control(sql), "{sql}");
        }
        for sql in ["INSERT INTO begin VALUES (1)", "", "-- COMMIT", "/* COMMIT", "endless()", "/* x */ SELECT 1", "é"]
        {
            assert!(!is_transaction_control(sql), "{sql}");
        }
    }

    #[test]
    fn copied_cells_keep_what_separates_them() {
        let rows = vec![
            vec![Some("a\tb\nc\r\\N".to_owned()), None, Some(String::new())],
            vec![Some("ü".to_owned()), Some("\\.".to_owned()), None],
        ];
        assert_eq!(copy_text(&rows), "a\\tb\\nc\\r\\\\N\t\\N\t\nü\t\\\\.\t\\N\n");
    }

    #[test]
    fn a_column_reads_back_as_the_type_that_it_was_made_with() {
        use ColumnType::{Boolean, Date, Float, Integer, Json, Numeric, Text, Timestamp};
        let catalogued = [
            (Text, "text"),
            (Integer, "int8"),
            (Float, "float8"),
            (Numeric, "numeric"),
            (Boolean, "bool"),
            (Date, "date"),
            (Timestamp, "timestamptz"),
            (Json, "jsonb"),
        ];
        for (kind, name) in catalogued {
            assert_eq!(column_type(name), kind);
        }
    }
}
