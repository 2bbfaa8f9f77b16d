//! `kill -9`, of workers and of the API.

use offload_common::clock;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::time::Duration;

use crate::support::{Backend, StackBuilder, samples};

/// What the specification allows a job to be held up by the death of its worker.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_workers_job_finishes_elsewhere() {
    let mut stack = StackBuilder::new(Backend::Services).workers(2).start().await;
    let client = stack.client().clone();
    let id = client.submit("echo", json!({"sleep_seconds": 3, "value": "survives"})).await;
    let job = client.until_state(&id, "running").await;
    let holder = stack.worker_of(&job).await;
    let killed = clock::instant();
    stack.workers[holder].kill().await;
    let moved = |now: &Value| now["state"] == "running" && now["worker"] != job["worker"];
    client.until(&id, "runs elsewhere", moved).await;
    assert!(killed.elapsed() < NOTICED_WITHIN, "noticed after {:?}", killed.elapsed());
    let done = client.succeeded(&id).await;
    assert_eq!((&done["attempt"], &done["result"]["value"]), (&json!(1), &json!("survives")), "{done:#}");
}

/// A big import is killed again and again in the middle; its rows are there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_loses_its_worker_commits_once() {
    const ROWS: usize = 200_000;
    let mut stack = StackBuilder::new(Backend::Services).workers(2).start().await;
    let client = stack.client().clone();
    let file = client.upload("text/csv", samples::orders(ROWS)).await;
    let payload = json!({"source": {"file": file}, "table": "orders", "format": "csv", "create": true});
    let id = client.submit("table.import", payload).await;
    let job = client.until(&id, "is under way", |job| job["progress"]["fraction"].as_f64() > Some(0.0)).await;
    if job["state"] == "running" {
        let holder = stack.worker_of(&job).await;
        stack.workers[holder].kill().await;
    }
    let done = client.succeeded(&id).await;
    assert_eq!(done["result"]["rows"], ROWS);
    let mut database = PgConnection::connect(&stack.database_url()).await.expect("connected");
    let counts = "SELECT count(*), count(DISTINCT id) FROM orders";
    let counts: (i64, i64) = sqlx::query_as(counts).fetch_one(&mut database).await.expect("counted");
    assert_eq!(counts, (ROWS as i64, ROWS as i64));
}

/// Whatever the API had answered 202 to is there when it comes back, and runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_api_loses_nothing_that_it_accepted() {
    let mut stack = StackBuilder::new(Backend::Services).start().await;
    let client = stack.client().clone();
    let submissions: Vec<_> = (0..200)
        .map(|n| {
            let client = client.clone();
            let body = json!({"kind": "echo", "payload": {"value": n}});
            tokio::spawn(async move {
                // The connection breaks for those that were too late: they were promised nothing.
                let request = client.request(reqwest::Method::POST, "/v1/jobs").json(&body);
                let answer = request.send().await.ok().filter(|answer| answer.status() == 202)?;
                let job: Value = answer.json().await.ok()?;
                Some(job["id"].as_str()?.to_owned())
            })
        })
        .collect();
    client.until_one_is_accepted().await;
    stack.api.take().expect("started").kill().await;
    let mut accepted = Vec::new();
    for submission in submissions {
        accepted.extend(submission.await.expect("joined"));
    }
    stack.start_api("offload api, again", &["api", "--listen", "127.0.0.1:0"]).await;
    for id in accepted {
        stack.client().succeeded(&id).await;
    }
}
