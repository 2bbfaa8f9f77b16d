//! The fields of an object, read one by one; what is wrong is collected. An optional field that is `null` is not given.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use chrono::{DateTime, Datelike, SubsecRound, Utc};
use offload_common::RawJson;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::problem::FieldError;

/// An object's fields.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    members: &'a [(Cow<'a, str>, &'a RawValue)],
    defaults: &'a Defaults,
    /// What has been found wrong so far.
    pub(super) errors: Vec<FieldError>,
}

/// What stands for fields that are not there.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    object: Map<String, Value>,
    raw: BTreeMap<String, RawJson>,
}

impl Defaults {
    /// Those that an object gives.
    pub(crate) fn new(object: Map<String, Value>, members: &[(Cow<'_, str>, &RawValue)]) -> Self {
        Self { object, raw: members.iter().map(|(name, raw)| (name.to_string(), (*raw).to_owned())).collect() }
    }

    /// The object.
    pub(super) fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Whether they hold for a field of this object: one that is there, even as `null`, is not replaced, and the two ways of
    /// saying when a job is due replace each other.
    fn hold(&self, name: &str, object: &Map<String, Value>) -> bool {
        let other = match name {
            "run_at" => "delay_seconds",
            "delay_seconds" => "run_at",
            name => name,
        };
        !object.contains_key(name) && !object.contains_key(other)
    }
}

/// The JSON Pointer of a member of the object at `parent`.
pub(crate) fn pointer(parent: &str, member: &str) -> String {
    format!("{parent}/{}", member.replace('~', "~0").replace('/', "~1"))
}

impl<'a> Fields<'a> {
    /// Reads `object`, whose `members` are as they were sent. Notes members that are repeated or not among `known`.
    pub(super) fn new(
        object: &'a Map<String, Value>,
        members: &'a [(Cow<'a, str>, &'a RawValue)],
        known: &[&str],
        defaults: &'a Defaults,
    ) -> Self {
        let mut errors = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, _) in members {
            if !seen.insert(name) {
                errors.push(FieldError::at(pointer("", name), "is given more than once"));
            } else if !known.contains(&name.as_ref()) {
                let detail = format!("is not a known field; the fields are {}", known.join(", "));
                errors.push(FieldError::at(pointer("", name), detail));
            }
        }
        Self { object, members, defaults, errors }
    }

    /// Notes that a field is wrong.
    pub(super) fn error(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::at(pointer("", name), detail));
    }

    /// Whether the field is there, `null` included.
    pub(super) fn present(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Whether the object itself gives the field, where a default may.
    pub(super) fn is_own(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// Whether the field is there and not `null`; notes if not.
    pub(super) fn required(&mut self, name: &str) -> bool {
        let given = self.given(name).is_some();
        if !given {
            self.error(name, "is required");
        }
        given
    }

    /// The field's value, `null` included.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        if self.defaults.hold(name, self.object) { self.defaults.object.get(name) } else { self.object.get(name) }
    }

    /// The field's value, if it is there and not `null`.
    pub(super) fn given(&self, name: &str) -> Option<&'a Value> {
        self.value(name).filter(|value| !value.is_null())
    }

    /// The field as it was sent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.raw_value(name).map(RawValue::get)
    }

    fn raw_value(&self, name: &str) -> Option<&'a RawValue> {
        if self.defaults.hold(name, self.object) {
            return self.defaults.raw.get(name).map(|raw| &**raw);
        }
        self.members.iter().find(|(member, _)| member == name).map(|(_, raw)| *raw)
    }

    /// The field as it was sent, to keep; `null` is kept only where it is a value, as in `payload`.
    pub(super) fn raw_json(&self, name: &str) -> Option<RawJson> {
        self.raw_value(name).filter(|raw| name == "payload" || raw.get() != "null").map(RawValue::to_owned)
    }

    fn read<T>(
        &mut self,
        name: &str,
        detail: impl Into<String>,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.given(name)?;
        let read = read(value);
        if read.is_none() {
            self.error(name, detail);
        }
        read
    }

    /// A string.
    pub(super) fn text(&mut self, name: &str) -> Option<&'a str> {
        self.read(name, "must be a string", Value::as_str)
    }

    /// A string with a meaning of its own.
    pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> Option<T> {
        let parsed = self.text(name)?.parse();
        parsed.map_err(|error: T::Err| self.error(name, error.to_string())).ok()
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, name: &str, min: u64, max: u64) -> Option<u64> {
        self.read(name, format!("must be a whole number from {min} to {max}"), |value| {
            value.as_u64().filter(|number| (min..=max).contains(number))
        })
    }

    /// A number within bounds.
    pub(super) fn number(&mut self, name: &str, min: f64, max: f64) -> Option<f64> {
        self.read(name, format!("must be a number from {min} to {max}"), |value| {
            value.as_f64().filter(|number| (min..=max).contains(number))
        })
    }

    /// A point in time, in whole microseconds.
    pub(super) fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.read(name, "must be an RFC 3339 time with its offset, such as 2026-11-23T09:30:00Z", |value| {
            let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?.to_utc().trunc_subsecs(6);
            Some(time).filter(|time| (1..=9999).contains(&time.year()))
        })
    }

    /// An array of at most `max` strings of 1 to `max_chars` characters each.
    pub(super) fn texts(&mut self, name: &str, max: usize, max_chars: usize) -> Vec<String> {
        let Some(values) = self.read(name, "must be an array of strings", Value::as_array) else { return Vec::new() };
        if values.len() > max {
            self.error(name, format!("must not have more than {max} items"));
            return Vec::new();
        }
        let mut texts = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match value.as_str().filter(|text| (1..=max_chars).contains(&text.chars().count())) {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    let detail = format!("must be a string of 1 to {max_chars} characters");
                    self.errors.push(FieldError::at(format!("/{name}/{index}"), detail));
                }
            }
        }
        texts
    }

    /// Whether the field is an object; notes if it is something else.
    pub(super) fn object(&mut self, name: &str) -> bool {
        self.read(name, "must be an object", Value::as_object).is_some()
    }
}
