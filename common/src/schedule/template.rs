//! The job that a schedule submits, with places in its payload for the time of the fire.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::RawJson;
use crate::callback::Callback;
use crate::job::{Priority, ScheduleId};
use crate::retry::RetryPolicy;

/// What a schedule submits, with every default resolved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobTemplate {
    /// The kind's name.
    pub kind: String,
    /// Where it queues.
    pub queue: String,
    /// How urgent it is.
    pub priority: Priority,
    /// The payload, as it was written; see [`JobTemplate::payload_of`].
    pub payload: RawJson,
    /// From 1 to 100.
    pub max_attempts: u32,
    /// Seconds that one attempt may take.
    pub timeout_seconds: u64,
    /// How the delay between attempts grows.
    pub retry_policy: RetryPolicy,
    /// The client's own object.
    pub metadata: Option<RawJson>,
    /// For filters.
    pub tags: Vec<String>,
    /// Who is told of its end.
    #[serde(default)]
    pub callback: Option<Callback>,
    /// Of the live jobs of the kind, one has it: a fire that finds it taken is left out. As it was written; see
    /// [`JobTemplate::unique_key_of`].
    #[serde(default)]
    pub unique_key: Option<String>,
}

/// Every placeholder there is, with what it stands for.
pub const PLACEHOLDERS: [(&str, &str); 7] = [
    ("{{fire.at}}", "the nominal time in UTC, such as 2026-03-29T01:00:00Z"),
    ("{{fire.local}}", "the same in the schedule's zone, such as 2026-03-29T03:00:00+02:00"),
    ("{{fire.date}}", "its local date, such as 2026-03-29"),
    ("{{fire.time}}", "its local time of day, such as 03:00:00"),
    ("{{fire.unix}}", "the same in seconds since 1970"),
    ("{{schedule.id}}", "the schedule's id"),
    ("{{schedule.name}}", "the schedule's name"),
];

/// What placeholders are filled in with.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// The nominal time, on the clocks of the schedule's zone.
    pub fire_at: DateTime<FixedOffset>,
    /// Which schedule it is.
    pub id: ScheduleId,
    /// What it is called.
    pub name: &'a str,
}

/// A text in double braces that is none of [`PLACEHOLDERS`], but looks as if it were meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a placeholder; the placeholders are {known}", known = PLACEHOLDERS.map(|(name, _)| name).join(", "))]
pub struct UnknownPlaceholder(String);

impl JobTemplate {
    /// The payload of one fire.
    #[must_use]
    pub fn payload_of(&self, filling: &Filling<'_>) -> RawJson {
        fill(&self.payload, filling)
    }

    /// The unique key of one fire.
    #[must_use]
    pub fn unique_key_of(&self, filling: &Filling<'_>) -> Option<String> {
        self.unique_key.as_deref().map(|key| replace(key, |placeholder| value(placeholder, filling)))
    }
}

/// Fills in the placeholders within the strings of a JSON text. The rest stays as it was written, digit by digit.
#[must_use]
pub fn fill(payload: &RawValue, filling: &Filling<'_>) -> RawJson {
    let text = payload.get();
    if !text.contains("{{") {
        return payload.to_owned();
    }
    // Outside a string no JSON text has two braces in a row that open, so what is found is within one. What is put there
    // must not end it.
    let filled = replace(text, |placeholder| {
        let quoted = serde_json::Value::from(value(placeholder, filling)).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    });
    RawValue::from_string(filled).unwrap_or_else(|_| payload.to_owned())
}

/// In one pass: what is put in is not looked at again.
fn replace(text: &str, value: impl Fn(&str) -> String) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = PLACEHOLDERS.iter().find(|(placeholder, _)| rest.starts_with(placeholder));
        let taken = match found {
            Some((placeholder, _)) => {
                filled.push_str(&value(placeholder));
                placeholder.len()
            }
            None => {
                filled.push('{');
                1
            }
        };
        rest = &rest[taken..];
    }
    filled + rest
}

fn value(placeholder: &str, filling: &Filling<'_>) -> String {
    let Filling { fire_at, id, name } = filling;
    match placeholder {
        "{{fire.at}}" => fire_at.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "{{fire.local}}" => fire_at.to_rfc3339_opts(SecondsFormat::AutoSi, false),
        "{{fire.date}}" => fire_at.format("%Y-%m-%d").to_string(),
        "{{fire.time}}" => fire_at.format("%H:%M:%S").to_string(),
        "{{fire.unix}}" => fire_at.timestamp().to_string(),
        "{{schedule.id}}" => id.to_string(),
        _ => (*name).to_owned(),
    }
}

/// Checks a text for what looks like a placeholder and is none.
///
/// # Errors
/// [`UnknownPlaceholder`] is the first.
pub fn check(text: &str) -> Result<(), UnknownPlaceholder> {
    let looks_meant = |rest: &&str| ["{{fire.", "{{schedule."].iter().any(|begin| rest.starts_with(begin));
    let meant = text.match_indices("{{").map(|(at, _)| &text[at..]).filter(looks_meant);
    for rest in meant {
        if !PLACEHOLDERS.iter().any(|(placeholder, _)| rest.starts_with(placeholder)) {
            let end = rest.find("}}").map_or(rest.len(), |end| end + 2);
            return Err(UnknownPlaceholder(rest[..end].chars().take(60).collect()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::factory;

    fn filled(payload: &str, name: &str) -> String {
        let fire_at = DateTime::parse_from_rfc3339("2026-03-29T03:00:00+02:00").expect("a time");
        let id = ScheduleId(uuid::Uuid::nil());
        let payload: RawJson = serde_json::from_str(payload).expect("JSON");
        fill(&payload, &Filling { fire_at, id, name }).get().to_owned()
    }

    #[test]
    fn placeholders_are_filled_in_and_the_rest_stays_as_it_was_written() {
        let payload = r#"{"n": 12345678901234567890.10, "at": "{{fire.at}}", "x": ["{{fire.date}}_{{fire.time}}.csv"],
            "{{fire.unix}}": "{{fire.local}}", "o": {"p": {}}, "mustache": "{{name}} {{ fire.at }}"}"#;
        let expected = r#"{"n": 12345678901234567890.10, "at": "2026-03-29T01:00:00Z", "x": ["2026-03-29_03:00:00.csv"],
            "1774746000": "2026-03-29T03:00:00+02:00", "o": {"p": {}}, "mustache": "{{name}} {{ fire.at }}"}"#;
        assert_eq!(filled(payload, "n"), expected);
        assert_eq!(filled(r#""{{schedule.id}}""#, "n"), r#""00000000-0000-0000-0000-000000000000""#);
    }

    #[test]
    fn a_name_cannot_end_the_string_that_it_is_put_into() {
        let name = "a\"b\\c\n{{fire.unix}}\"";
        let text: String = serde_json::from_str(&filled(r#""<{{schedule.name}}>""#, name)).expect("JSON");
        assert_eq!(text, format!("<{name}>"));
    }

    #[test]
    fn what_is_put_in_is_not_filled_in_again() {
        let name = "{{fire.unix}} \"{{";
        let text: String = serde_json::from_str(&filled(r#""{{{schedule.name}}}{{fire.date}}""#, name)).expect("JSON");
        assert_eq!(text, format!("{{{name}}}2026-03-29"));
        let template =
            JobTemplate { unique_key: Some("{{schedule.name}} {{fire.date}}".into()), ..factory::template() };
        let fire_at = DateTime::parse_from_rfc3339("2026-03-29T03:00:00+02:00").expect("a time");
        let filling = Filling { fire_at, id: ScheduleId(uuid::Uuid::nil()), name };
        assert_eq!(template.unique_key_of(&filling), Some(format!("{name} 2026-03-29")));
    }

    #[test]
    fn what_looks_like_a_placeholder_and_is_none_is_told() {
        assert_eq!(check("{{fire.at}} {{other}} {{fire}} {fire.x} {{schedule.name}}"), Ok(()));
        for (text, shown) in
            [("a {{fire.now}} b", "{{fire.now}}"), ("{{fire.at}", "{{fire.at}"), ("{{schedule.x", "{{schedule.x")]
        {
            let error = check(text).expect_err(text).to_string();
            assert!(
                error.starts_with(&format!("`{shown}` is not a placeholder; the placeholders are {{{{fire.at}}}}, ")),
                "{error}"
            );
        }
    }
}
