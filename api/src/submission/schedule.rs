//! From a JSON body to a schedule: a new one, or a changed one.

use chrono::{DateTime, Utc};
use offload_common::config::JobsConfig;
use offload_common::job::ScheduleId;
use offload_common::schedule::policy::MAX_MISSED;
use offload_common::schedule::template::Filling;
use offload_common::schedule::{
    Definition, INTERVAL_SECONDS, MAX_JITTER_SECONDS, Missed, Overlap, Recurrence, Schedule, Timing, Zone,
};
use serde_json::Value;

use super::fields::{Defaults, Fields};
use super::{template, text};
use crate::catalog::Known;
use crate::json_body::JsonBody;
use crate::problem::{FieldError, Problem};

/// Every field that a schedule may have.
pub(crate) const FIELDS: [&str; 12] = [
    "name",
    "cron",
    "every_seconds",
    "time_zone",
    "starts_at",
    "ends_at",
    "jitter_seconds",
    "missed",
    "max_missed",
    "overlap",
    "job",
    "batch",
];

/// The longest name, in characters.
pub(crate) const MAX_NAME_CHARS: usize = 200;

/// How many missed fires are made up for unless a request says how many.
pub(crate) const DEFAULT_MAX_MISSED: u32 = 100;

/// What a body is checked against.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The known kinds.
    pub(crate) known: &'a Known,
    /// The configured queues.
    pub(crate) queues: &'a [String],
    /// The operator's limits.
    pub(crate) limits: &'a JobsConfig,
    /// Whether a callback may do without a secret of its own.
    pub(crate) signs: bool,
    /// Now, as far as this process knows.
    pub(crate) now: DateTime<Utc>,
}

/// Checks a body; answers the schedule's name and what it does. What a change does not mention stays as it is `before`, and
/// what it says is `null` goes back to its default.
pub(crate) fn read(
    body: &JsonBody,
    id: ScheduleId,
    before: Option<&Schedule>,
    rules: Rules<'_>,
) -> Result<(String, Definition), Problem> {
    let Some(object) = body.value.as_object() else {
        return Err(Problem::validation(vec![FieldError::at("", "must be an object")]));
    };
    let members = body.members();
    let none = Defaults::default();
    let mut fields = Fields::new(object, &members, &FIELDS, &none);
    let old = before.map(|before| &before.definition);
    let name = read_name(&mut fields, before);
    let recurrence = read_recurrence(&mut fields, old);
    let time_zone = match fields.text("time_zone") {
        Some(zone) => zone.to_owned(),
        None => kept(&fields, "time_zone", old, |old| old.time_zone.clone()).unwrap_or_else(|| "UTC".to_owned()),
    };
    if let Err(unknown) = Zone::named(&time_zone) {
        fields.error("time_zone", unknown.to_string());
    }
    let starts_at = fields.time("starts_at").or_else(|| kept(&fields, "starts_at", old, |old| old.starts_at).flatten());
    let ends_at = fields.time("ends_at").or_else(|| kept(&fields, "ends_at", old, |old| old.ends_at).flatten());
    let jitter_seconds = fields.number("jitter_seconds", 0.0, MAX_JITTER_SECONDS);
    let jitter_seconds = jitter_seconds.or_else(|| kept(&fields, "jitter_seconds", old, |old| old.jitter_seconds));
    let missed = fields.parse::<Missed>("missed").or_else(|| kept(&fields, "missed", old, |old| old.missed));
    let overlap = fields.parse::<Overlap>("overlap").or_else(|| kept(&fields, "overlap", old, |old| old.overlap));
    let max_missed = fields.integer("max_missed", 1, MAX_MISSED.into()).and_then(|n| n.try_into().ok());
    let max_missed = max_missed.or_else(|| kept(&fields, "max_missed", old, |old| old.max_missed));
    text::find_nul(&body.value, &mut fields.errors);
    let name_filled = name.as_deref().unwrap_or_default();
    let filling = Filling { fire_at: rules.now.fixed_offset(), id, name: name_filled };
    let template = template::read(&mut fields, old.map(|old| &old.template), filling, rules);

    let (Some(name), Some(recurrence), Some(template), true) = (name, recurrence, template, fields.errors.is_empty())
    else {
        return Err(Problem::validation(fields.errors));
    };
    let overlap = overlap.unwrap_or_default();
    if overlap == Overlap::CancelPrevious && template.jobs().any(|job| job.unique_key.is_some()) {
        let detail = "a job that runs keeps its unique_key until it has stopped, and so the fire that cancels it could submit none: \
                      use another policy, or leave out the job's unique_key";
        return Err(Problem::validation(vec![FieldError::at("/overlap", detail)]));
    }
    let definition = Definition {
        recurrence,
        time_zone,
        starts_at,
        ends_at,
        jitter_seconds: jitter_seconds.unwrap_or(0.0),
        missed: missed.unwrap_or_default(),
        max_missed: max_missed.unwrap_or(DEFAULT_MAX_MISSED),
        overlap,
        template,
    };
    let timed = ["cron", "every_seconds", "time_zone", "starts_at", "ends_at"].iter().any(|name| fields.present(name));
    if before.is_none() || timed {
        check_times(&definition, rules.now).map_err(|error| Problem::validation(vec![error]))?;
    }
    Ok((name, definition))
}

/// What a field was before, if the body does not mention it.
fn kept<T>(fields: &Fields<'_>, name: &str, old: Option<&Definition>, value: impl Fn(&Definition) -> T) -> Option<T> {
    old.filter(|_| !fields.present(name)).map(value)
}

fn read_name(fields: &mut Fields<'_>, before: Option<&Schedule>) -> Option<String> {
    if let Some(before) = before.filter(|_| !fields.present("name")) {
        return Some(before.name.clone());
    }
    let name = fields.required("name").then(|| fields.text("name")).flatten()?;
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        fields.error("name", format!("must be a string of 1 to {MAX_NAME_CHARS} characters"));
        return None;
    }
    Some(name.to_owned())
}

fn read_recurrence(fields: &mut Fields<'_>, old: Option<&Definition>) -> Option<Recurrence> {
    let given = |fields: &Fields<'_>, name| fields.value(name).is_some_and(|value: &Value| !value.is_null());
    match (given(fields, "cron"), given(fields, "every_seconds")) {
        (true, true) => {
            fields.error("every_seconds", "and cron exclude each other");
            None
        }
        (true, false) => {
            let recurrence = Recurrence::Cron(fields.text("cron")?.to_owned());
            // Without any zone or bounds: those are looked at for themselves.
            match Timing::new(&recurrence, "UTC", (None, None), DateTime::UNIX_EPOCH) {
                Ok(_) => Some(recurrence),
                Err(error) => {
                    fields.error("cron", super::cut(error.to_string()));
                    None
                }
            }
        }
        (false, true) => {
            let seconds = fields.integer("every_seconds", *INTERVAL_SECONDS.start(), *INTERVAL_SECONDS.end())?;
            Some(Recurrence::EverySeconds(seconds))
        }
        (false, false) => {
            let name = if matches!(old.map(|old| &old.recurrence), Some(Recurrence::EverySeconds(_))) {
                "every_seconds"
            } else {
                "cron"
            };
            let kept = kept(fields, name, old, |old| old.recurrence.clone());
            if kept.is_none() {
                fields.error(name, "is required: cron or every_seconds");
            }
            kept
        }
    }
}

/// Whether it ever fires.
fn check_times(definition: &Definition, now: DateTime<Utc>) -> Result<(), FieldError> {
    if let (Some(start), Some(end)) = (definition.starts_at, definition.ends_at)
        && end < start
    {
        return Err(FieldError::at("/ends_at", "lies before starts_at"));
    }
    let timing = definition.timing(now).map_err(|error| FieldError::at("", error.to_string()))?;
    if timing.after(now).is_some() {
        return Ok(());
    }
    let wrong = match definition.ends_at {
        Some(_) => FieldError::at("/ends_at", "leaves nothing to fire"),
        None => FieldError::at("/cron", "never fires"),
    };
    Err(wrong)
}
