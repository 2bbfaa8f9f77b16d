//! Conditional requests: comparing entity tags.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Whether a header such as `If-None-Match` names this tag, by the weak comparison of RFC 9110.
pub(crate) fn matches_any(headers: &HeaderMap, name: HeaderName, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || opaque(tag) == opaque(etag))
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
}
