//! How long a client wants to wait for the end of a job: `?wait=N`, or `Prefer: wait=N` (RFC 7240).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::query::Query;

/// The request header, which may occur more than once.
const PREFER: &str = "prefer";

/// The answer's header that says which preferences were honoured.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// A client's wish to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// For this long at most; zero is not at all.
    pub(crate) at_most: Duration,
    /// What `Preference-Applied` says.
    pub(crate) applied: Option<String>,
}

impl Waiting {
    /// Reads the wish, cut to `max_seconds`. A parameter counts more than a header. A header that makes no sense is no
    /// wish, as RFC 7240 asks; a parameter that makes none is an error.
    pub(crate) fn read(headers: &HeaderMap, query: &mut Query, max_seconds: u64) -> Self {
        let asked = query.parse("wait", |text| {
            seconds(text).ok_or_else(|| "must be a whole number of seconds, 0 or more".to_owned())
        });
        let preferences = preferences(headers);
        let preferred = |name: &str| preferences.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let cut = |seconds: u64| Duration::from_secs(seconds.min(max_seconds));
        if let Some(seconds) = asked {
            return Self { at_most: cut(seconds), applied: None };
        }
        match preferred("wait").and_then(seconds) {
            Some(seconds) => {
                let at_most = cut(seconds);
                Self { at_most, applied: Some(format!("wait={}", at_most.as_secs())) }
            }
            None => Self {
                at_most: Duration::ZERO,
                applied: preferred("respond-async").map(|_| "respond-async".to_owned()),
            },
        }
    }

    /// Notes on the answer what was honoured.
    pub(crate) fn note(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.applied.as_deref().and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(PREFERENCE_APPLIED, value);
        }
    }
}

/// A whole number of seconds; one that is too long to count is as long as can be.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Names, in lower case, with their values; parameters are left out.
fn preferences(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = lines.flat_map(|line| split_outside_quotes(line, ',')).filter_map(|preference| {
        let first = split_outside_quotes(preference, ';').into_iter().next()?;
        let (name, value) = first.split_once('=').unwrap_or((first, ""));
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
    });
    preferences.filter(|(name, _)| !name.is_empty()).collect()
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|c| {
        let here = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        here
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Uri;

    fn read(prefer: &[&'static str], uri: &'static str) -> (u64, Option<String>) {
        let mut headers = HeaderMap::new();
        for value in prefer {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        let waiting = Waiting::read(&headers, &mut Query::read(&Uri::from_static(uri), &["wait"]), 60);
        (waiting.at_most.as_secs(), waiting.applied)
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        let applied = |text: &str| Some(text.to_owned());
        assert_eq!(read(&[], "/"), (0, None));
        assert_eq!(read(&["wait=10"], "/"), (10, applied("wait=10")));
        assert_eq!(read(&["Wait = \"10\" ; x=1"], "/"), (10, applied("wait=10")));
        assert_eq!(read(&["respond-async, wait=10"], "/"), (10, applied("wait=10")));
        assert_eq!(read(&["respond-async", "wait=100"], "/"), (60, applied("wait=60")));
        assert_eq!(read(&["respond-async"], "/"), (0, applied("respond-async")));
        assert_eq!(read(&["wait=5, wait=9"], "/"), (5, applied("wait=5")), "the first counts");
        assert_eq!(read(&["foo=\"a, wait=9\""], "/"), (0, None));
        assert_eq!(read(&["wait=soon"], "/"), (0, None));
        assert_eq!(read(&["wait=10"], "/?wait=7"), (7, None));
        assert_eq!(read(&[], "/?wait=434548137521931812864"), (60, None));
    }
}
