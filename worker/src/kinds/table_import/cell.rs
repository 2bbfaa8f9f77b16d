//! Cells of a file as values of a column: checked, and written the one way that every store takes.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use offload_common::store::ColumnType;
use serde_json::value::RawValue;

use crate::kinds::json;

/// How much of a refused cell its message quotes, in characters.
const EXCERPT: usize = 60;

/// Digits of a number, at most, exponent aside; PostgreSQL keeps that many on either side of the point.
const MAX_DIGITS: usize = 1000;

/// A cell of text. Empty means `NULL`, except for a text column.
///
/// # Errors
/// What is wrong with it.
pub(super) fn from_text(kind: ColumnType, text: &str) -> Result<Option<String>, String> {
    if kind == ColumnType::Text {
        return if text.contains('\0') {
            Err("text holds the character NUL".to_owned())
        } else {
            Ok(Some(text.to_owned()))
        };
    }
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let value = match kind {
        ColumnType::Text => Some(text.to_owned()),
        ColumnType::Integer => trimmed.parse::<i64>().ok().map(|number| number.to_string()),
        ColumnType::Float => {
            trimmed.parse::<f64>().ok().filter(|number| number.is_finite()).map(|_| trimmed.to_owned())
        }
        ColumnType::Numeric => is_decimal(trimmed).then(|| trimmed.to_owned()),
        ColumnType::Boolean => boolean(trimmed).map(|truth| truth.to_string()),
        ColumnType::Date => date(trimmed),
        ColumnType::Timestamp => timestamp(trimmed),
        ColumnType::Json => json::storable(trimmed).ok().map(|json| json.get().to_owned()),
    };
    value.map(Some).ok_or_else(|| format!("`{}` is not {}", excerpt(trimmed), describe(kind)))
}

/// A member of a JSON object. `null` means `NULL`; a string stands for what it holds, except for a JSON column.
///
/// # Errors
/// What is wrong with it.
pub(super) fn from_json(kind: ColumnType, value: &RawValue) -> Result<Option<String>, String> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') if kind != ColumnType::Json => {
            let text: String = serde_json::from_str(raw).map_err(|error| error.to_string())?;
            from_text(kind, &text)
        }
        _ => from_text(kind, raw),
    }
}

/// What a column of this kind takes.
fn describe(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text",
        ColumnType::Integer => "an integer of 64 bits",
        ColumnType::Float => "a finite number",
        ColumnType::Numeric => "a decimal number",
        ColumnType::Boolean => "true or false",
        ColumnType::Date => "a date such as 2026-11-23",
        ColumnType::Timestamp => "a time such as 2026-11-23T10:00:00Z",
        ColumnType::Json => "JSON",
    }
}

fn excerpt(text: &str) -> String {
    let cut: String = text.chars().take(EXCERPT).collect::<String>().replace('\0', "\u{fffd}");
    if cut.len() < text.len() { cut + "…" } else { cut }
}

/// Digits with at most one point, a sign, and a small exponent.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i16>().ok()),
        None => (unsigned, Some(0)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let length = whole.len() + fraction.len();
    (1..=MAX_DIGITS).contains(&length)
        && digits(whole)
        && digits(fraction)
        && exponent.is_some_and(|exponent| usize::from(exponent.unsigned_abs()) <= MAX_DIGITS)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn date(text: &str) -> Option<String> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (1..=9999).contains(&date.year()).then(|| date.to_string())
}

fn timestamp(text: &str) -> Option<String> {
    let time: DateTime<Utc> = DateTime::parse_from_rfc3339(text).ok()?.into();
    (1..=9999).contains(&time.year()).then(|| time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ColumnType::{Boolean, Date, Float, Integer, Json, Numeric, Text, Timestamp};
    use offload_common::RawJson;
    use proptest::prelude::*;

    #[test]
    fn cells_are_written_one_way() {
        for (kind, text, expected) in [
            (Text, " a ", " a "),
            (Text, "", ""),
            (Integer, "-7", "-7"),
            (Integer, " +7 ", "7"),
            (Integer, "9223372036854775807", "9223372036854775807"),
            (Float, "1.5e3", "1.5e3"),
            (Numeric, "12345678901234567890.12", "12345678901234567890.12"),
            (Numeric, "-.5", "-.5"),
            (Numeric, "1e10", "1e10"),
            (Boolean, "Yes", "true"),
            (Boolean, "0", "false"),
            (Date, "2024-02-29", "2024-02-29"),
            (Timestamp, "2026-11-23T13:00:00.5+02:00", "2026-11-23T11:00:00.500000Z"),
            (Timestamp, "2026-11-23 13:00:00Z", "2026-11-23T13:00:00.000000Z"),
            (Json, " {\"a\": 1.50} ", "{\"a\": 1.50}"),
        ] {
            assert_eq!(from_text(kind, text), Ok(Some(expected.to_owned())), "{kind:?} {text:?}");
        }
        for kind in [Integer, Float, Numeric, Boolean, Date, Timestamp, Json] {
            assert_eq!(from_text(kind, " "), Ok(None), "{kind:?}");
        }
    }

    #[test]
    fn what_a_type_refuses_is_told() {
        for (kind, refused) in [
            (Text, &["a\0b"][..]),
            (Integer, &["x", "1.5", "9223372036854775808", "1 2", "0x10"]),
            (Float, &["x", "1,5", "NaN", "inf", "1e999"]),
            (Numeric, &["x", "1.2.3", ".", "-", "1e", "1e99999", "NaN", "١"]),
            (Boolean, &["maybe", "2"]),
            (Date, &["x", "2026-02-30", "2026-13-01", "23.11.2026", "0000-01-01", "10000-01-01"]),
            (Timestamp, &["x", "2026-11-23", "2026-11-23T10:00:00", "2026-11-23T25:00:00Z"]),
            (Json, &["x", "{\"a\":}", "{", "\"\\u0000\""]),
        ] {
            for text in refused {
                assert!(from_text(kind, text).is_err(), "{kind:?} {text:?}");
            }
        }
        assert_eq!(from_text(Integer, "x"), Err("`x` is not an integer of 64 bits".to_owned()));
        assert!(from_text(Integer, &"x".repeat(1000)).expect_err("refused").chars().count() < 120);
    }

    #[test]
    fn members_of_objects_become_cells() {
        for (kind, raw, expected) in [
            (Text, r#""a\n""#, Some("a\n")),
            (Text, "1.50", Some("1.50")),
            (Text, r#"{"a": 1}"#, Some(r#"{"a": 1}"#)),
            (Text, "null", None),
            (Integer, "7", Some("7")),
            (Integer, r#""7""#, Some("7")),
            (Boolean, "true", Some("true")),
            (Json, r#""a""#, Some(r#""a""#)),
            (Json, "[1]", Some("[1]")),
            (Json, "null", None),
        ] {
            let value: RawJson = serde_json::from_str(raw).expect("JSON");
            assert_eq!(from_json(kind, &value), Ok(expected.map(str::to_owned)), "{kind:?} {raw}");
        }
        for (kind, raw) in [(Integer, "1.5"), (Integer, "[]"), (Text, r#""\u0000""#), (Date, "20261123")] {
            let value: RawJson = serde_json::from_str(raw).expect("JSON");
            assert!(from_json(kind, &value).is_err(), "{kind:?} {raw}");
        }
    }

    proptest! {
        #[test]
        fn writing_it_one_way_is_final(kind in 0usize..8, text in any::<String>()) {
            let kind = [Text, Integer, Float, Numeric, Boolean, Date, Timestamp, Json][kind];
            if let Ok(Some(written)) = from_text(kind, &text) {
                prop_assert_eq!(from_text(kind, &written), Ok(Some(written)));
            }
        }
    }
}
