//! Query parameters, read strictly: an unknown one, a repeated one or a bad value is a 400 that names it.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::http::Uri;
use chrono::{DateTime, Utc};

use crate::problem::{FieldError, Problem};

/// The parameters of a request, taken out one by one; [`Query::finish`] reports everything that was wrong.
pub(crate) struct Query {
    values: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads the parameters of `uri`, of which `known` are allowed.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Self {
        let mut query = Self { values: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let known =
                    if known.is_empty() { "none are".to_owned() } else { format!("known: {}", known.join(", ")) };
                query.errors.push(FieldError::parameter(name, format!("is not known here ({known})")));
            } else if value.contains('\0') {
                query.errors.push(FieldError::parameter(name, "must not contain the character U+0000"));
            } else if query.values.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                query.errors.push(FieldError::parameter(name, "is given more than once"));
            }
        }
        query
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// A value that `parse` understands; its error completes the sentence "the parameter …".
    pub(crate) fn parse<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.values.remove(name)?;
        parse(&text).map_err(|detail| self.errors.push(FieldError::parameter(name, detail))).ok()
    }

    /// A value with a textual form of its own.
    pub(crate) fn value<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        self.parse(name, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// A point in time.
    pub(crate) fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.parse(name, |text| {
            let time = DateTime::parse_from_rfc3339(text).map_err(|_| {
                "must be an RFC 3339 time such as 2026-11-23T09:30:00Z (a `+` is written %2B)".to_owned()
            })?;
            Ok(time.to_utc())
        })
    }

    /// Yes or no.
    pub(crate) fn truth(&mut self, name: &str) -> Option<bool> {
        self.parse(name, |text| text.parse().map_err(|_| "must be true or false".to_owned()))
    }

    /// Yes, or no unless said.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.truth(name).unwrap_or(false)
    }

    /// A page's length.
    pub(crate) fn limit(&mut self, default: u32, max: u32) -> u32 {
        let limit = self.parse("limit", |text| {
            let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
            limit.ok_or_else(|| format!("must be a whole number from 1 to {max}"))
        });
        limit.unwrap_or(default)
    }

    /// Notes what is wrong with another part of the request; `detail` completes the sentence "the parameter …".
    pub(crate) fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::parameter(name, detail));
    }

    /// Whether everything was in order.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::parameters(self.errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(uri: &'static str) -> Vec<String> {
        let mut query = Query::read(&Uri::from_static(uri), &["limit", "after", "kind"]);
        query.limit(50, 1000);
        query.time("after");
        query.text("kind");
        query.errors.into_iter().filter_map(|error| error.parameter).collect()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(errors("/?limit=1000&after=2026-11-23T09:30:00.5%2B02:00&kind=%22").is_empty());
        for limit in ["0", "1001", "-1", "x", "", "1.0", "99999999999"] {
            let uri: Uri = format!("/?limit={limit}").parse().expect("a URI");
            let mut query = Query::read(&uri, &["limit"]);
            query.limit(50, 1000);
            assert!(query.finish().is_err(), "{limit}");
        }
        assert_eq!(errors("/?limit=1&limit=2"), ["limit"]);
        assert_eq!(errors("/?Limit=1&after=today&kind=%00"), ["Limit", "kind", "after"]);
    }
}
