//! `GET /v1/jobs/{id}`: reads a job, or waits for its end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use offload_common::job::JobId;
use serde_json::json;

use super::RETRY_AFTER_SECONDS;
use crate::app::App;
use crate::conditional::matches_any;
use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::Problem;
use crate::query::Query;
use crate::routes::{Endpoint, Id};
use crate::view::{self, JobView};
use crate::waiting::Waiting;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/v1/jobs/{id}", handle, describe)
}

fn describe(schemas: &mut Schemas) -> Operation {
    let condition = "The job's `ETag` as you know it: if it still looks like that, the answer is 304.";
    Operation::new("getJob", "jobs", "Read a job, or wait for its end")
        .of_a_job()
        .may_wait()
        .parameter(Parameter::header("If-None-Match", condition, json!({ "type": "string" })))
        .answer(
            Answer::json(200, "The job.", schemas.of::<JobView<'_>>())
                .header("ETag", "Changes whenever the job looks different.")
                .header("Retry-After", "While the job is not final: seconds after which looking again is worth it.")
                .header("Preference-Applied", "Which preferences were honoured."),
        )
        .answer(Answer::empty(304, "The job looks as `If-None-Match` says."))
}

async fn handle(State(app): State<Arc<App>>, Id(id): Id, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let mut query = Query::read(&uri, &["wait"]);
    let waiting = Waiting::read(&headers, &mut query, app.server.max_wait_seconds);
    query.finish()?;
    let job = app.job_after(JobId(id), waiting.at_most).await?;
    let etag = view::etag(&job);
    let unchanged = etag.as_ref().is_some_and(|etag| matches_any(&headers, IF_NONE_MATCH, etag));
    let mut response =
        if unchanged { StatusCode::NOT_MODIFIED.into_response() } else { Json(JobView::from(&job)).into_response() };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if !job.state.is_final() {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
    }
    waiting.note(headers);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Method;
    use offload_common::broker::{Broker, Signal};
    use offload_common::clock;
    use offload_common::job::JobId;
    use offload_common::job::transition::{Event, Failure, Retry};
    use offload_common::store::{Report, Store};
    use offload_common::testing::factory;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::{TestApp, request};

    #[tokio::test]
    async fn what_names_no_job_is_not_found() {
        let app = TestApp::start().await;
        let compact = JobId::new().0.simple().to_string();
        for id in [&JobId::new().to_string(), "1", "%00", "%ff", "..%2f", "x".repeat(36).as_str(), &compact] {
            app.get(&format!("/v1/jobs/{id}")).await.problem(ProblemType::NotFound);
        }
    }

    #[tokio::test]
    async fn the_tag_changes_with_all_that_a_client_sees() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let path = format!("/v1/jobs/{id}");
        let mut tags = Vec::new();
        let mut look = async || {
            let answer = app.get(&path).await;
            let tag = answer.header("etag").to_owned();
            let conditional = request(Method::GET, &path, &[("if-none-match", &tag)], Body::empty());
            let unchanged = app.send(conditional).await;
            assert_eq!((unchanged.status, unchanged.header("etag"), unchanged.body.len()), (304, tag.as_str(), 0));
            assert!(tag.starts_with("W/\"") && !tags.contains(&tag), "{tag} in {tags:?}");
            assert_eq!(answer.header("retry-after"), "1");
            tags.push(tag);
            answer.json()
        };
        assert_eq!(look().await["state"], "queued");
        let (_session, lease) = app.claim(id).await;
        assert_eq!(look().await["state"], "running");
        for (n, fraction) in [(1, 0.25), (2, 0.5)] {
            app.report(Report { lease, said: vec![factory::progress(n, fraction, Some("half"))] }).await;
            assert_eq!(look().await["progress"], json!({"fraction": fraction, "message": "half"}));
        }
        app.post(&format!("{path}/cancel"), &[], "").await;
        assert_eq!(look().await["cancel_requested"], true);
    }

    #[tokio::test]
    async fn a_failed_attempt_is_shown_while_the_next_is_awaited() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let failure = Failure { code: "boom".to_owned(), message: "it broke".to_owned(), retry: Retry::Backoff };
        app.run(id, Event::Fail(failure), None).await;
        let job = app.get(&format!("/v1/jobs/{id}")).await.json();
        assert_eq!((&job["state"], &job["attempt"]), (&json!("scheduled"), &json!(1)));
        assert_eq!((&job["error"]["code"], &job["error"]["message"]), (&json!("boom"), &json!("it broke")));
        assert_eq!((&job["error"]["attempt"], &job["history"][0]["attempt"]), (&json!(1), &json!(1)));
        for time in [&job["created_at"], &job["run_at"], &job["error"]["at"], &job["history"][0]["ended_at"]] {
            let time = time.as_str().expect("a text");
            assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        }
    }

    #[tokio::test]
    async fn a_signal_wakes_who_waits() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let path = format!("/v1/jobs/{id}?wait=50");
        let working = async {
            app.run(id, Event::Succeed, None).await;
            app.broker.signal(Signal::Changed(vec![id])).await;
        };
        let (answer, ()) = tokio::join!(app.get(&path), working);
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("succeeded")));
        assert_eq!(answer.header("retry-after"), "");
        assert_eq!(app.get(&path).await.json()["state"], "succeeded", "a final job is not waited for");
    }

    #[tokio::test]
    async fn an_end_is_noticed_without_any_signal() {
        let app = TestApp::start().await;
        let ids = [app.submit(json!({})).await, app.submit(json!({})).await];
        let paths = ids.map(|id| format!("/v1/jobs/{id}?wait=50"));
        let working = async {
            app.run(ids[0], Event::Succeed, None).await;
            app.run(ids[1], Event::Succeed, None).await;
        };
        let started = clock::instant();
        let (first, second, ()) = tokio::join!(app.get(&paths[0]), app.get(&paths[1]), working);
        assert_eq!([&first.json()["state"], &second.json()["state"]], [&json!("succeeded"); 2]);
        assert!(started.elapsed() < Duration::from_secs(40), "not by the end of the wait");
    }

    #[tokio::test]
    async fn a_shutdown_answers_who_waits() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        let path = format!("/v1/jobs/{id}?wait=50");
        let (answer, ()) = tokio::join!(app.get(&path), async { app.stop.cancel() });
        assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("queued")));
    }

    #[tokio::test]
    async fn without_its_database_the_answer_is_to_come_again() {
        let app = TestApp::start().await;
        let id = app.submit(json!({})).await;
        app.store.close().await;
        app.get(&format!("/v1/jobs/{id}")).await.problem(ProblemType::DatabaseUnavailable);
    }
}
