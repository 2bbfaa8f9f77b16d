//! Typed cells. SQLite stores any value in any column, so what PostgreSQL would refuse is refused here.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::de::IgnoredAny;
use serde_json::{Number, Value};

use crate::store::{Column, ColumnType, Error, Result};

/// The declared type of a column. It says what the column holds and, by SQLite's rules of affinity, keeps SQLite from
/// turning decimals, dates and documents into floating point numbers.
pub(super) fn declared(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "TEXT",
        ColumnType::Integer => "INTEGER",
        ColumnType::Float => "REAL",
        ColumnType::Numeric => "DECIMAL_TEXT",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Date => "DATE_TEXT",
        ColumnType::Timestamp => "TIMESTAMP_TEXT",
        ColumnType::Json => "JSON_TEXT",
    }
}

/// What a column of this declared type holds, also in tables that somebody else created.
pub(super) fn kind_of(declared: &str) -> ColumnType {
    const PARTS: [(&str, ColumnType); 11] = [
        ("DECIMAL", ColumnType::Numeric),
        ("NUMERIC", ColumnType::Numeric),
        ("TIMESTAMP", ColumnType::Timestamp),
        ("DATETIME", ColumnType::Timestamp),
        ("DATE", ColumnType::Date),
        ("JSON", ColumnType::Json),
        ("BOOL", ColumnType::Boolean),
        ("INT", ColumnType::Integer),
        ("REAL", ColumnType::Float),
        ("FLOA", ColumnType::Float),
        ("DOUB", ColumnType::Float),
    ];
    let declared = declared.to_ascii_uppercase();
    PARTS.iter().find(|(part, _)| declared.contains(part)).map_or(ColumnType::Text, |(_, kind)| *kind)
}

/// One row as a JSON array of the values to store. SQLite reads the numbers in it exactly, but for floating point
/// numbers beyond 10^±20 or so, which may be off by the last bit.
pub(super) fn row(columns: &[Column], cells: &[Option<String>]) -> Result<Value> {
    if cells.len() != columns.len() {
        let (cells, columns) = (cells.len(), columns.len());
        return Err(Error::Rejected(format!("a row of {cells} cells does not fit {columns} columns")));
    }
    let value = |(column, cell): (&Column, &Option<String>)| match cell {
        None => Ok(Value::Null),
        Some(text) => value(column.kind, text).ok_or_else(|| {
            Error::Rejected(format!("column `{}`: `{}` is not {}", column.name, shortened(text), describe(column.kind)))
        }),
    };
    columns.iter().zip(cells).map(value).collect()
}

fn value(kind: ColumnType, text: &str) -> Option<Value> {
    let trimmed = text.trim();
    match kind {
        ColumnType::Text => (!text.contains('\0')).then(|| Value::from(text)),
        ColumnType::Integer => trimmed.parse::<i64>().ok().map(Value::from),
        ColumnType::Float => trimmed.parse().ok().and_then(Number::from_f64).map(Value::Number),
        ColumnType::Numeric => is_decimal(trimmed).then(|| Value::from(trimmed)),
        ColumnType::Boolean => boolean(trimmed).map(|truth| Value::from(i64::from(truth))),
        ColumnType::Date => {
            NaiveDate::parse_from_str(trimmed, "%Y-%m-%d").ok().map(|date| Value::from(date.to_string()))
        }
        ColumnType::Timestamp => timestamp(trimmed).map(Value::from),
        ColumnType::Json => serde_json::from_str::<IgnoredAny>(text).ok().map(|_| Value::from(text)),
    }
}

fn describe(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text without NUL characters",
        ColumnType::Integer => "a 64-bit integer",
        ColumnType::Float => "a finite number",
        ColumnType::Numeric => "a decimal number",
        ColumnType::Boolean => "true or false",
        ColumnType::Date => "a date such as 2026-11-23",
        ColumnType::Timestamp => "a point in time such as 2026-11-23T10:00:00Z",
        ColumnType::Json => "a JSON document",
    }
}

fn shortened(text: &str) -> String {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Digits with at most one point, a sign and an exponent as PostgreSQL takes them.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    whole.len() + fraction.len() > 0 && digits(whole) && digits(fraction) && exponent_fits
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// In UTC with microseconds, so that the texts sort by time. Without a zone it is UTC.
fn timestamp(text: &str) -> Option<String> {
    const WITHOUT_ZONE: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let time: DateTime<Utc> = match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.into(),
        Err(_) => {
            let naive = |format: &&str| NaiveDateTime::parse_from_str(text, format).ok();
            WITHOUT_ZONE.iter().find_map(naive)?.and_utc()
        }
    };
    Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{Boolean, Date, Float, Integer, Json, Numeric, Text, Timestamp};
    use serde_json::json;

    const KINDS: [ColumnType; 8] = [Text, Integer, Float, Numeric, Boolean, Date, Timestamp, Json];

    #[test]
    fn a_declared_type_leads_back_to_what_the_column_holds() {
        for kind in KINDS {
            assert_eq!(kind_of(declared(kind)), kind, "{kind:?}");
        }
        let foreign = [
            ("varchar(20)", Text),
            ("", Text),
            ("BIGINT", Integer),
            ("double precision", Float),
            ("decimal(10, 2)", Numeric),
            ("bool", Boolean),
            ("datetime", Timestamp),
        ];
        for (declared, kind) in foreign {
            assert_eq!(kind_of(declared), kind, "{declared}");
        }
    }

    #[test]
    fn cells_that_fit_their_type_are_stored_in_its_form() {
        for (kind, cell, stored) in [
            (Text, " as it is ", json!(" as it is ")),
            (Integer, " -9223372036854775808", json!(i64::MIN)),
            (Float, "1e3", json!(1000.0)),
            (Numeric, "-0012.3400", json!("-0012.3400")),
            (Numeric, ".5e-10", json!(".5e-10")),
            (Boolean, "True", json!(1)),
            (Boolean, "0", json!(0)),
            (Date, "2024-02-29", json!("2024-02-29")),
            (Timestamp, "2026-11-23T11:00:00+01:00", json!("2026-11-23T10:00:00.000000Z")),
            (Timestamp, "2026-11-23 10:00:00.5", json!("2026-11-23T10:00:00.500000Z")),
            (Json, r#"{"a": [1, 2.50]}"#, json!(r#"{"a": [1, 2.50]}"#)),
        ] {
            assert_eq!(value(kind, cell), Some(stored), "{kind:?} {cell}");
        }
    }

    #[test]
    fn cells_that_their_type_refuses_are_rejected() {
        for (kind, cell) in [
            (Text, "a\0b"),
            (Integer, "1.5"),
            (Integer, ""),
            (Integer, "9223372036854775808"),
            (Float, "NaN"),
            (Float, "1,5"),
            (Numeric, "1.2.3"),
            (Numeric, "."),
            (Numeric, "1e"),
            (Boolean, "maybe"),
            (Date, "2023-02-29"),
            (Date, "23.11.2026"),
            (Timestamp, "yesterday"),
            (Json, "{"),
        ] {
            assert_eq!(value(kind, cell), None, "{kind:?} {cell}");
        }
    }

    #[test]
    fn a_rejected_cell_is_named_by_its_column() {
        let columns = [Column { name: "n".into(), kind: Integer }];
        let error = row(&columns, &[Some("x".repeat(100))]).unwrap_err().to_string();
        assert!(error.contains(&format!("column `n`: `{}…` is not a 64-bit integer", "x".repeat(80))), "{error}");
        assert!(row(&columns, &[]).is_err(), "a cell is missing");
        assert_eq!(row(&columns, &[None]).unwrap(), json!([null]));
    }
}
