//! Conditional requests: comparing entity tags.

use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::compression;

/// Whether a header such as `If-None-Match` names this tag, by the weak comparison of RFC 9110.
pub(crate) fn matches_any(headers: &HeaderMap, name: HeaderName, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || opaque(tag) == opaque(etag))
}

/// Whether `If-Match` names this tag, by the strong comparison of RFC 9110; `None` where the header is not there.
pub(crate) fn if_match(headers: &HeaderMap, etag: &HeaderValue) -> Option<bool> {
    let values: Vec<_> = headers.get_all(IF_MATCH).iter().collect();
    if values.is_empty() {
        return None;
    }
    let tags = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let known = etag.to_str().ok();
    let mut tags = tags.map(str::trim);
    Some(tags.any(|tag| tag == "*" || known.is_some_and(|known| compression::is_tag_of(tag, known))))
}

fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::IF_NONE_MATCH;

    #[test]
    fn tags_are_compared_weakly() {
        let matches = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(given));
            matches_any(&headers, IF_NONE_MATCH, &HeaderValue::from_static("W/\"a\""))
        };
        assert!(matches("\"a\"") && matches("W/\"a\"") && matches("\"b\", W/\"a\"") && matches("*"));
        assert!(!matches("\"b\"") && !matches("a") && !matches(""));
        assert!(!matches_any(&HeaderMap::new(), IF_NONE_MATCH, &HeaderValue::from_static("\"a\"")));
    }
    #[test]
    fn changes_compare_strongly() {
        let etag = HeaderValue::from_static("\"3\"");
        let matches =
            |given: &'static str| if_match(&HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_static(given))]), &etag);
        assert_eq!(if_match(&HeaderMap::new(), &etag), None);
        for (given, expected) in [
            ("\"3\"", true),
            ("\"3-gzip\"", true),
            ("\"3-br\"", false),
            ("*", true),
            ("\"2\", \"3\"", true),
            ("W/\"3\"", false),
            ("3", false),
        ] {
            assert_eq!(matches(given), Some(expected), "{given}");
        }
    }
}
