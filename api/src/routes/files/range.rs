//! Byte ranges (RFC 9110, section 14): one range is served, several are ignored.

use std::ops::Range;

use axum::http::header::{IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue};

/// What a request asks of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Beyond,
}

/// Reads `Range`, which holds only while `If-Range` names the file as it is.
pub(super) fn wanted(headers: &HeaderMap, etag: &HeaderValue, length: u64) -> Wanted {
    let current = headers.get(IF_RANGE).is_none_or(|known| known == etag);
    let range = headers.get(RANGE).filter(|_| current).and_then(|value| value.to_str().ok());
    match range.and_then(parse) {
        None => Wanted::Whole,
        Some((Some(first), last)) if first < length => {
            let end = last.map_or(length, |last| length.min(last.saturating_add(1)));
            Wanted::Part(first..end)
        }
        Some((None, Some(suffix))) if suffix > 0 && length > 0 => Wanted::Part(length - suffix.min(length)..length),
        Some(_) => Wanted::Beyond,
    }
}

/// First and last byte; without a first, the last so many bytes. Anything else is not understood, and so ignored.
fn parse(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, spec) = range.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        // A number that no file can reach is still a number.
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(Some(digits.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    let ordered = match (first, last) {
        (Some(first), Some(last)) => first <= last,
        (None, None) => false,
        _ => true,
    };
    (unit.trim().eq_ignore_ascii_case("bytes") && ordered).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ten(range: &'static str) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static(range));
        wanted(&headers, &HeaderValue::from_static("\"e\""), 10)
    }

    #[test]
    fn one_range_is_understood() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=2-", 2..10),
            ("bytes=2-99", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("Bytes= 2-5", 2..6),
            ("bytes=9-18446744073709551615", 9..10),
            ("bytes=0-99999999999999999999999", 0..10),
            ("bytes=-99999999999999999999999", 0..10),
        ] {
            assert_eq!(of_ten(range), Wanted::Part(part), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of_ten(range), Wanted::Beyond, "{range}");
        }
        for range in ["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes", "bytes=a-b", "bytes=+1-2"] {
            assert_eq!(of_ten(range), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_not_served() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        headers.insert(IF_RANGE, HeaderValue::from_static("\"old\""));
        assert_eq!(wanted(&headers, &HeaderValue::from_static("\"e\""), 10), Wanted::Whole);
        assert_eq!(wanted(&headers, &HeaderValue::from_static("\"old\""), 10), Wanted::Part(0..1));
    }
}
