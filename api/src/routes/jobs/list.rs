//! `GET /v1/jobs`: lists jobs, newest first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use offload_common::job::JobId;
use offload_common::store::JobFilter;
use serde_json::json;

use crate::app::App;
use crate::newest::newest_jobs;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::paging;
use crate::problem::{Problem, ProblemType};
use crate::query::Query;
use crate::routes::Endpoint;
use crate::routes::jobs::filter;
use crate::view::JobView;

/// Besides those of the filter.
const PARAMETERS: [&str; 4] = ["created_after", "created_before", "limit", "cursor"];

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 1000;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    let time = || json!({ "type": "string", "format": "date-time" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
    let operation = Operation::new("listJobs", "jobs", "List jobs, newest first").description(
        "Every filter that is given must match. The next page is where `Link` with `rel=\"next\"` points; a page \
                      ends early where its jobs take more than 8 MiB.",
    );
    filter::describe(operation)
        .parameter(Parameter::query("created_after", "Accepted at this time or later.", time()))
        .parameter(Parameter::query("created_before", "Accepted before this time.", time()))
        .parameter(Parameter::query("limit", "Jobs per page.", limit))
        .parameter(Parameter::query("cursor", "From a `Link`; where the page begins.", text()))
        .asks_the_database()
        .problems(&[ProblemType::InvalidParameter])
        .answer(
            Answer::json(200, "A page of jobs.", schemas.items_of::<JobView<'_>>())
                .header("Link", "The next page, if there is one: `<…>; rel=\"next\"`."),
        )
}

async fn handle(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &[&filter::PARAMETERS[..], &PARAMETERS].concat());
    let limit = query.limit(DEFAULT_LIMIT, MAX_LIMIT);
    let filter = JobFilter {
        created_after: query.time("created_after"),
        created_before: query.time("created_before"),
        before: query.parse("cursor", cursor),
        limit,
        ..filter::read(&mut query)
    };
    query.finish()?;
    let (jobs, more) = app.ask(newest_jobs(&*app.store, &filter)).await?;
    let next = jobs.last().filter(|_| more).map(|job| job.id.0.simple().to_string());
    Ok(paging::page(jobs.iter().map(JobView::from).collect(), &uri, "cursor", next))
}

/// A cursor is the id of the last job of the page before. Clients are not told: what it is made of may change.
fn cursor(text: &str) -> Result<JobId, String> {
    text.parse().map_err(|_| "must be taken from the `Link` of an earlier page".to_owned())
}

#[cfg(test)]
mod tests {
    use offload_common::job::transition::Event;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::{Answer, TestApp};

    fn ids(answer: &Answer) -> Vec<String> {
        let list = answer.json();
        let items = list["items"].as_array().expect("items");
        items.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
    }

    fn next(answer: &Answer) -> Option<String> {
        let (path, relation) = answer.header("link").split_once('>')?;
        assert_eq!(relation, "; rel=\"next\"");
        Some(path.trim_start_matches('<').to_owned())
    }

    #[tokio::test]
    async fn pages_lead_through_all_jobs_newest_first() {
        let app = TestApp::start().await;
        let mut submitted = Vec::new();
        for _ in 0..5 {
            submitted.insert(0, app.submit(json!({"tags": ["a&b"]})).await.to_string());
        }
        let (mut path, mut seen, mut pages) = (Some("/v1/jobs?limit=2&tag=a%26b".to_owned()), Vec::new(), 0);
        while let Some(here) = path {
            let page = app.get(&here).await;
            assert_eq!(page.status, 200, "{}", page.text());
            seen.extend(ids(&page));
            path = next(&page);
            pages += 1;
            // What comes in meanwhile does not disturb the pages behind it.
            app.submit(json!({"tags": ["a&b"]})).await;
        }
        assert_eq!((seen, pages), (submitted, 3));
        assert_eq!(ids(&app.get("/v1/jobs").await).len(), 8);
    }

    /// 400 jobs, of which the first are large, on pages that would hold them all.
    #[tokio::test]
    async fn a_page_ends_where_its_jobs_take_too_much() {
        let app = TestApp::start().await;
        let mut submitted = Vec::new();
        for n in 0..400 {
            let name = "x".repeat(if n < 11 { 1_000_000 } else { 1 });
            submitted.insert(0, app.submit(json!({"payload": {"value": 1, "name": name}})).await.to_string());
        }
        let (mut path, mut pages) = (Some("/v1/jobs?limit=1000".to_owned()), Vec::new());
        while let Some(here) = path {
            let page = app.get(&here).await;
            path = next(&page);
            pages.push(ids(&page));
        }
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [397, 3]);
        assert_eq!(pages.concat(), submitted);
    }

    #[tokio::test]
    async fn filters_narrow() {
        let app = TestApp::start().await;
        let plain = app.submit(json!({})).await;
        let later = app.submit(json!({"delay_seconds": 60, "tags": ["t"]})).await;
        let elsewhere = app.submit(json!({"queue": "reports"})).await;
        app.run(elsewhere, Event::Succeed, None).await;
        let created = app.get(&format!("/v1/jobs/{later}")).await.json()["created_at"].clone();
        let created = created.as_str().expect("a time");
        for (query, expected) in [
            ("state=queued".to_owned(), vec![plain]),
            ("state=scheduled".to_owned(), vec![later]),
            ("state=succeeded".to_owned(), vec![elsewhere]),
            ("state=running".to_owned(), vec![]),
            ("kind=test.kind".to_owned(), vec![elsewhere, later, plain]),
            ("kind=other".to_owned(), vec![]),
            ("queue=reports".to_owned(), vec![elsewhere]),
            ("tag=t&state=scheduled".to_owned(), vec![later]),
            ("tag=t&state=queued".to_owned(), vec![]),
            (format!("created_after={created}&queue=default"), vec![later]),
            (format!("created_before={created}"), vec![plain]),
            ("batch_id=0199f6c2-0000-7000-8000-000000000000".to_owned(), vec![]),
            ("schedule_id=0199f6c2-0000-7000-8000-000000000000".to_owned(), vec![]),
        ] {
            let answer = app.get(&format!("/v1/jobs?{query}")).await;
            let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(ids(&answer), expected, "{query}");
        }
    }

    #[tokio::test]
    async fn wrong_parameters_are_named_together() {
        let app = TestApp::start().await;
        let query = "state=done&limit=0&created_after=now&batch_id=1&cursor=zz&colour=red&queue=%00";
        let problem = app.get(&format!("/v1/jobs?{query}")).await.problem(ProblemType::InvalidParameter);
        let errors = problem["errors"].as_array().expect("errors");
        let mut names: Vec<&str> = errors.iter().filter_map(|error| error["parameter"].as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["batch_id", "colour", "created_after", "cursor", "limit", "queue", "state"]);
        assert!(errors.iter().all(|error| error.get("pointer").is_none()));
    }
}
