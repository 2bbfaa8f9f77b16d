//! Following a list of jobs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::events::{Event, Events};
use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    a_list_shows_jobs_as_they_come_and_go
    a_list_shows_how_far_a_job_has_come
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

/// A list that is followed, as a client keeps it: jobs by their ids.
struct List {
    events: Events,
    jobs: BTreeMap<String, Value>,
    last: String,
}

impl List {
    async fn open(client: &Client, path: &str) -> Self {
        let events = Events::open(client, path, None).await.expect("a stream");
        let mut list = Self { events, jobs: BTreeMap::new(), last: String::new() };
        assert_eq!(list.next().await.expect("an event").name, "list");
        list
    }

    /// Takes in the next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        let event = self.events.next().await?;
        let id = |job: &Value| job["id"].as_str().expect("an id").to_owned();
        let jobs = match event.name.as_str() {
            "list" => {
                self.jobs.clear();
                &event.data["items"]
            }
            "changes" => {
                for id in event.data["removed"].as_array().expect("ids") {
                    assert!(self.jobs.remove(id.as_str().expect("an id")).is_some(), "it was in the list: {event:?}");
                }
                &event.data["changed"]
            }
            other => panic!("an event named {other}"),
        };
        self.jobs.extend(jobs.as_array().expect("jobs").iter().map(|job| (id(job), job.clone())));
        self.last.clone_from(&event.id);
        Some(event)
    }

    /// Follows it until this holds.
    async fn until(&mut self, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            self.next().await.expect("the stream goes on");
        }
    }

    fn states(&self) -> Vec<&str> {
        self.jobs.values().map(|job| job["state"].as_str().expect("a state")).collect()
    }
}

async fn a_list_shows_jobs_as_they_come_and_go(stack: &Stack) {
    let client = stack.client();
    let mut all = List::open(client, "/v1/events?tag=followed").await;
    let mut running = List::open(client, "/v1/events?tag=followed&state=running").await;
    client.submit_with(json!({"kind": "echo", "payload": {}})).await;
    let job = json!({"kind": "echo", "payload": {"sleep_seconds": 600}, "tags": ["followed"]});
    let id = client.submit_with(job).await;
    running.until(|list| list.jobs.contains_key(&id)).await;
    all.until(|list| list.states() == ["running"]).await;
    client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
    running.until(|list| list.jobs.is_empty()).await;
    all.until(|list| list.states() == ["cancelled"]).await;
    let page = client.get("/v1/jobs?tag=followed").await.expect(200).json();
    assert_eq!(page["items"], json!([all.jobs[&id]]), "what was told last is what the list shows");
}

async fn a_list_shows_how_far_a_job_has_come(stack: &Stack) {
    let client = stack.client();
    let mut list = List::open(client, "/v1/events?kind=echo&limit=1").await;
    client.submit_with(json!({"kind": "echo", "payload": {"sleep_seconds": 2}})).await;
    let progress = |list: &List| list.jobs.values().any(|job| job["progress"]["fraction"].is_number());
    list.until(progress).await;
    list.until(|list| list.states() == ["succeeded"]).await;
}

/// Like a browser: when the stream breaks, on with the other API, behind the last event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_goes_on_at_another_api_when_the_first_is_killed() {
    let mut stack = StackBuilder::new(Backend::Services).start().await;
    let (_other_api, other) = stack.start_another_api().await;
    other.ready().await;
    let path = "/v1/events?state=scheduled";
    let mut list = List::open(stack.client(), path).await;
    let later = json!({"kind": "echo", "payload": {}, "delay_seconds": 3600});
    let id = other.submit_with(later.clone()).await;
    list.until(|list| list.jobs.contains_key(&id)).await;
    stack.api.take().expect("started").kill().await;
    assert!(list.next().await.is_none(), "it was cut off");
    // Nothing has changed, so nothing is told until something does.
    list.events = Events::open(&other, path, Some(&list.last)).await.expect("a stream");
    let second = other.submit_with(later).await;
    assert_eq!(list.next().await.expect("an event").name, "changes");
    assert!(list.jobs.contains_key(&second), "{:?}", list.jobs);
    // Who missed something gets all of it.
    let last = list.last.clone();
    other.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
    list.until(|list| list.jobs.len() == 1).await;
    list.events = Events::open(&other, path, Some(&last)).await.expect("a stream");
    assert_eq!(list.next().await.expect("an event").name, "list");
    assert_eq!(list.jobs.keys().collect::<Vec<_>>(), [&second]);
}
