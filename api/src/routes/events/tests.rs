//! Lists that are followed, over the whole intake.

use offload_common::job::transition::Event;
use serde_json::json;

use crate::problem::ProblemType;
use crate::testing::TestApp;
use crate::testing::reading::{Reading, Seen};

/// The states of the jobs that the list, or a change of it, names; and how many it removes.
fn told((_, event, data): &Seen) -> (String, Vec<String>, usize) {
    let jobs = data["items"].as_array().or(data["changed"].as_array()).expect("jobs");
    let states = jobs.iter().map(|job| job["state"].as_str().expect("a state").to_owned()).collect();
    (event.clone(), states, data["removed"].as_array().map_or(0, Vec::len))
}

fn expected(event: &str, states: &[&str], removed: usize) -> (String, Vec<String>, usize) {
    (event.to_owned(), states.iter().map(|&state| state.to_owned()).collect(), removed)
}

#[tokio::test]
async fn a_list_is_told_whole_and_then_what_changes_in_it() {
    let app = TestApp::start().await;
    app.submit(json!({"tags": ["other"]})).await;
    let old = app.submit(json!({"tags": ["mine"]})).await;
    let mut list = Reading::of(&app, "/v1/events?tag=mine&limit=2", None).await;
    let (_, _, data) = list.next().await.expect("an event");
    let page = app.get("/v1/jobs?tag=mine").await.json();
    assert_eq!(data["items"], page["items"], "as the list of jobs shows them");
    app.submit(json!({"tags": ["other"]})).await;
    let new = app.submit(json!({"tags": ["mine"]})).await;
    assert_eq!(told(&list.next().await.expect("an event")), expected("changes", &["queued"], 0));
    app.run(old, Event::Succeed, None).await;
    assert_eq!(told(&list.next().await.expect("an event")), expected("changes", &["succeeded"], 0));
    app.submit(json!({"tags": ["mine"]})).await;
    let pushed = list.next().await.expect("an event");
    assert_eq!(told(&pushed), expected("changes", &["queued"], 1));
    assert_eq!(pushed.2["removed"], json!([old]));
    app.post(&format!("/v1/jobs/{new}/cancel"), &[], "").await;
    assert_eq!(told(&list.next().await.expect("an event")), expected("changes", &["cancelled"], 0));
}

#[tokio::test]
async fn what_a_filter_matches_no_more_is_removed() {
    let app = TestApp::start().await;
    let id = app.submit(json!({})).await;
    let mut list = Reading::of(&app, "/v1/events?state=queued", None).await;
    assert_eq!(told(&list.next().await.expect("an event")), expected("list", &["queued"], 0));
    app.run(id, Event::Succeed, None).await;
    let (_, _, data) = list.next().await.expect("an event");
    assert_eq!(data, json!({"changed": [], "removed": [id]}));
}

#[tokio::test]
async fn who_comes_back_gets_the_whole_list_unless_it_is_as_it_was() {
    let app = TestApp::start().await;
    app.submit(json!({})).await;
    let (first, ..) = Reading::of(&app, "/v1/events", None).await.next().await.expect("an event");
    let mut same = Reading::of(&app, "/v1/events", Some(&first)).await;
    let mut by_parameter = Reading::of(&app, &format!("/v1/events?last_event_id={first}"), None).await;
    app.submit(json!({})).await;
    for list in [&mut same, &mut by_parameter] {
        assert_eq!(told(&list.next().await.expect("an event")), expected("changes", &["queued"], 0));
    }
    let mut other = Reading::of(&app, "/v1/events", Some(&first)).await;
    assert_eq!(told(&other.next().await.expect("an event")), expected("list", &["queued", "queued"], 0));
}

#[tokio::test]
async fn wrong_parameters_are_named_together() {
    let app = TestApp::start().await;
    let query = "state=done&limit=201&batch_id=1&cursor=1&created_after=2026-11-23T09:30:00Z&last_event_id=1-0";
    let problem = app.get(&format!("/v1/events?{query}")).await.problem(ProblemType::InvalidParameter);
    let errors = problem["errors"].as_array().expect("errors");
    let mut names: Vec<&str> = errors.iter().filter_map(|error| error["parameter"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["batch_id", "created_after", "cursor", "last_event_id", "limit", "state"]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_not_waited_for() {
    let app = TestApp::start_with(|settings| {
        settings.migrated = false;
        settings.server.request_timeout_seconds = 0.05;
    })
    .await;
    app.get("/v1/events").await.problem(ProblemType::DatabaseUnavailable);
}
