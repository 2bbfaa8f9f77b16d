//! `GET /v1/jobs/{id}/logs`: the lines that a job's handler wrote.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use offload_common::job::{Epoch, JobId, LogLine};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::routes::{Endpoint, Id};
use crate::timestamp::Timestamp;

const DEFAULT_LIMIT: u32 = 1000;
const MAX_LIMIT: u32 = 10_000;

/// A line that a handler wrote.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LogLine")]
struct LineView<'a> {
    /// Where it is in the log: `?after=` this one answers those behind it.
    id: &'a str,
    /// When it was written.
    at: Timestamp,
    /// `debug`, `info`, `warn` or `error`.
    level: &'a str,
    /// The text.
    message: &'a str,
}

impl<'a> From<&'a LogLine> for LineView<'a> {
    fn from(line: &'a LogLine) -> Self {
        Self { id: &line.id, at: line.at.into(), level: &line.level, message: &line.message }
    }
}

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}/logs", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let after = Parameter::query("after", "Only lines behind the one with this id.", json!({ "type": "string" }));
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    Operation::new("getLogs", "jobs", "Read what a job's handler wrote")
        .of_a_job()
        .parameter(after)
        .parameter(Parameter::query("limit", "Lines per page.", limit))
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "Lines in order, oldest first.", schemas.items_of::<LineView<'_>>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["after", "limit"]);
    let after = query.parse("after", line_id);
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    query.finish()?;
    let job = app.job(JobId(id)).await?;
    let mut lines = app.ask(app.store.logs(job.id, after, limit + 1)).await?;
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = lines.last().filter(|_| more).map(|line| line.id.clone());
    Ok(paging::page(lines.iter().map(LineView::from).collect(), &uri, "after", next))
}

fn line_id(text: &str) -> Result<(Epoch, u32), String> {
    let parse = || {
        let (epoch, n) = text.split_once('-')?;
        Some((epoch.parse().ok()?, n.parse().ok()?))
    };
    parse().ok_or_else(|| "must be the id of a line, such as 1-0".to_owned())
}
