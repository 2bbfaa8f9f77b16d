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

#[cfg(test)]
mod tests {
    use offload_common::job::JobId;
    use offload_common::store::Report;
    use offload_common::testing::factory;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn lines_come_in_order_page_by_page() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let (_session, lease) = app.claim(id).await;
        let line = |n: u32| factory::line(n + 1, &format!("line {n}"));
        app.report(Report { lease, said: (0..12).map(line).collect() }).await;
        let (mut path, mut messages) = (format!("/v1/jobs/{id}/logs?limit=5"), Vec::new());
        loop {
            let page = app.get(&path).await;
            let lines = page.json()["items"].as_array().expect("items").clone();
            assert!(lines.len() <= 5 && lines.iter().all(|line| line["level"] == "info"));
            messages.extend(lines.iter().map(|line| line["message"].as_str().expect("a text").to_owned()));
            match page.header("link").split_once('>') {
                Some((next, _)) => path = next.trim_start_matches('<').to_owned(),
                None => break,
            }
        }
        assert_eq!(messages, (0..12).map(|n| format!("line {n}")).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_wrong_place_and_a_wrong_job_are_told_apart() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        assert_eq!(app.get(&format!("/v1/jobs/{id}/logs")).await.json(), json!({"items": []}));
        for after in ["1", "x-1", "1-x", "1--1", ""] {
            let answer = app.get(&format!("/v1/jobs/{id}/logs?after={after}")).await;
            answer.problem(ProblemType::InvalidParameter);
        }
        app.get(&format!("/v1/jobs/{}/logs", JobId::new())).await.problem(ProblemType::NotFound);
    }
}
