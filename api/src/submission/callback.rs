//! Who is to be told of an end.

use offload_common::callback::{Callback, Event, Secret};
use serde_json::{Value, json};

use super::pointer;
use crate::problem::FieldError;

const FIELDS: [&str; 3] = ["url", "events", "secret"];

/// The longest URL, in characters.
const MAX_URL: usize = 2048;

/// Reads a callback; answers everything that is wrong with it, and nothing of its secret. `signs` says whether it may do
/// without one.
pub(crate) fn read(value: &Value, events: &[Event], signs: bool) -> Result<Callback, Vec<FieldError>> {
    let Some(object) = value.as_object() else { return Err(vec![FieldError::at("", "must be an object")]) };
    let mut errors = Vec::new();
    for name in object.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        let detail = format!("is not a known field; the fields are {}", FIELDS.join(", "));
        errors.push(FieldError::at(pointer("", name), detail));
    }
    let given = |name| object.get(name).filter(|value| !value.is_null());
    let url = read_url(given("url")).map_err(|error| errors.push(error)).ok();
    let secret = read_secret(given("secret"), signs).map_err(|error| errors.push(error)).ok();
    let events = read_events(given("events"), events).map_err(|error| errors.push(error)).ok();
    match (url, events, secret) {
        (Some(url), Some(events), Some(secret)) if errors.is_empty() => Ok(Callback { url, events, secret }),
        _ => Err(errors),
    }
}

fn read_url(given: Option<&Value>) -> Result<String, FieldError> {
    let wrong = |detail: &str| Err(FieldError::at("/url", detail));
    let Some(value) = given else { return wrong("is required") };
    let Some(text) = value.as_str() else { return wrong("must be a string") };
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) || text.chars().count() > MAX_URL {
        return wrong(&format!("must be an http or https URL of at most {MAX_URL} characters"));
    }
    match text.parse::<axum::http::Uri>() {
        Ok(uri) if uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) => Ok(text.to_owned()),
        Ok(_) => wrong("must name a host, without user name and password"),
        Err(_) => wrong("is not a URL"),
    }
}

fn read_events(given: Option<&Value>, all: &[Event]) -> Result<Vec<Event>, FieldError> {
    let Some(value) = given else { return Ok(all.to_vec()) };
    let names: Vec<&str> = all.iter().map(|event| event.as_str()).collect();
    let wrong = || FieldError::at("/events", format!("must be an array of one or more of {}", names.join(", ")));
    let listed = value.as_array().filter(|listed| !listed.is_empty()).ok_or_else(wrong)?;
    let read = |value: &Value| value.as_str()?.parse().ok().filter(|event| all.contains(event));
    let mut events: Vec<Event> = listed.iter().map(read).collect::<Option<_>>().ok_or_else(wrong)?;
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn read_secret(given: Option<&Value>, signs: bool) -> Result<Option<Secret>, FieldError> {
    let wrong = |detail: String| FieldError::at("/secret", detail);
    match given {
        None if signs => Ok(None),
        None => Err(wrong("is required: this server signs with none of its own (callbacks.secrets)".to_owned())),
        Some(value) => {
            let text = value.as_str().ok_or_else(|| wrong("must be a string".to_owned()))?;
            Secret::try_from(text.to_owned()).map(Some).map_err(|error| wrong(error.to_string()))
        }
    }
}

/// The schema.
pub(crate) fn schema(events: &[Event]) -> Value {
    let names: Vec<&str> = events.iter().map(|event| event.as_str()).collect();
    json!({
        "type": ["object", "null"],
        "description": "Where to tell of the end, by a signed POST that follows Standard Webhooks. It is a job of the kind \
                        `callback`, and comes to an end of its own.",
        "required": ["url"],
        "additionalProperties": false,
        "properties": {
            "url": {
                "type": "string",
                "maxLength": MAX_URL,
                "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://",
                "description": "http or https, without user name and password. Private networks are not reached unless the \
                                operator allows them.",
            },
            "events": {
                "type": ["array", "null"],
                "minItems": 1,
                "items": { "enum": names },
                "description": "Which ends; all of them unless given.",
            },
            "secret": {
                "type": ["string", "null"],
                "writeOnly": true,
                "pattern": "^whsec_[A-Za-z0-9+/]+={0,2}$",
                "description": "What signs it: `whsec_` and the base64 of 24 to 64 random bytes. It is in no answer. May be \
                                left out where the operator has configured one.",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn what_is_wrong_is_pointed_at_and_no_secret_is_quoted() {
        let url = "https://example.com/hook?a=b";
        for (value, pointers) in [
            (json!({"url": url, "secret": SECRET}), vec![]),
            (json!({"url": "HTTP://[::1]:8080", "secret": SECRET, "events": ["job.failed"]}), vec![]),
            (json!({"url": url, "secret": null, "events": null}), vec!["/secret"]),
            (json!(1), vec![""]),
            (json!({"secret": SECRET}), vec!["/url"]),
            (json!({"url": 7, "secret": SECRET, "events": [], "x/y": 1}), vec!["/events", "/url", "/x~1y"]),
            (json!({"url": "ftp://example.com", "secret": "whsec_hush"}), vec!["/secret", "/url"]),
            (json!({"url": "https://u:p@example.com", "secret": "hush"}), vec!["/secret", "/url"]),
            (
                json!({"url": "https:///path", "secret": 1, "events": ["batch.finished"]}),
                vec!["/events", "/secret", "/url"],
            ),
            (json!({"url": format!("https://{}", "a".repeat(MAX_URL)), "secret": SECRET}), vec!["/url"]),
        ] {
            let errors = read(&value, &Event::OF_JOBS, false).err().unwrap_or_default();
            let mut found: Vec<&str> = errors.iter().filter_map(|error| error.pointer.as_deref()).collect();
            found.sort_unstable();
            assert_eq!(found, pointers, "{value}");
            assert!(!format!("{errors:?}").contains("hush"));
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let read = |value| read(&value, &Event::OF_JOBS, true).expect("valid");
        let all = read(json!({"url": "https://example.com"}));
        assert_eq!((all.events.as_slice(), all.secret), (Event::OF_JOBS.as_slice(), None));
        let one = read(json!({"url": "https://example.com", "events": ["job.failed", "job.failed"], "secret": SECRET}));
        assert_eq!((one.events.as_slice(), one.secret.is_some()), ([Event::JobFailed].as_slice(), true));
    }
}
