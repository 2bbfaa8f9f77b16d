//! What a list of jobs is narrowed to, whether it is read or followed.

use offload_common::job::State as JobState;
use offload_common::store::JobFilter;
use serde_json::json;
use uuid::Uuid;

use crate::openapi::{Operation, Parameter};
use crate::query::Query;
use crate::request::TENANT;

/// The names of the parameters.
pub(in crate::routes) const PARAMETERS: [&str; 6] = ["state", "kind", "queue", "batch_id", "schedule_id", "tag"];

/// Adds the parameters to a description.
pub(in crate::routes) fn describe(operation: Operation) -> Operation {
    let text = || json!({ "type": "string" });
    let id = || json!({ "type": "string", "format": "uuid" });
    operation
        .parameter(Parameter::query("state", "In this state.", json!({ "enum": JobState::ALL })))
        .parameter(Parameter::query("kind", "Of this kind.", text()))
        .parameter(Parameter::query("queue", "In this queue.", text()))
        .parameter(Parameter::query("batch_id", "Of this batch.", id()))
        .parameter(Parameter::query("schedule_id", "Fired by this schedule.", id()))
        .parameter(Parameter::query("tag", "Carrying this tag.", text()))
}

/// Reads them; what else narrows a list is left open.
pub(in crate::routes) fn read(query: &mut Query) -> JobFilter {
    JobFilter {
        tenant: TENANT.to_owned(),
        state: query.value("state"),
        kind: query.text("kind"),
        queue: query.text("queue"),
        batch_id: query.parse("batch_id", id),
        schedule_id: query.parse("schedule_id", id),
        tag: query.text("tag"),
        ..JobFilter::default()
    }
}

fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "must be an id".to_owned())
}
