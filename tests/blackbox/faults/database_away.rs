//! PostgreSQL goes away and comes back.

use serde_json::json;

use crate::support::{Backend, StackBuilder};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn intake_answers_503_and_comes_back_by_itself() {
    let stack = StackBuilder::new(Backend::Services).proxies().start().await;
    let client = stack.client();
    let before = client.submit("echo", json!({"value": 1})).await;
    client.succeeded(&before).await;
    let body = json!({"kind": "echo", "payload": {"value": 2}});

    stack.services().database_proxy().cut();
    for _ in 0..3 {
        let answer = client.post("/v1/jobs", &body).await;
        assert!(answer.header("retry-after").parse::<u32>().is_ok());
        assert_eq!(answer.problem(503)["type"], "/problems/database-unavailable");
        client.get(&format!("/v1/jobs/{before}")).await.problem(503);
    }
    client.get("/livez").await.expect(200);
    client.get("/readyz").await.expect(503);
    stack.services().database_proxy().restore();
    client.ready().await;
    let after = client.submit("echo", json!({"value": 3})).await;
    client.succeeded(&after).await;
    let list = client.get("/v1/jobs").await.expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "what got a 503 was not accepted");
}

/// A database that hangs is no better than one that is gone: the answer does not hang with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_is_answered_in_time() {
    let stack = StackBuilder::new(Backend::Services)
        .proxies()
        .with("OFFLOAD_SERVER__REQUEST_TIMEOUT_SECONDS", "2")
        .start()
        .await;
    let client = stack.client();
    stack.services().database_proxy().stall();
    let answer = client.post("/v1/jobs", &json!({"kind": "echo", "payload": {}})).await;
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    answer.problem(503);
    stack.services().database_proxy().restore();
    client.ready().await;
    let id = client.submit("echo", json!({"value": 1})).await;
    client.succeeded(&id).await;
}

/// A job ends while the database is away: its end is written once it is back, by the same run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_run_is_not_thrown_away() {
    let stack = StackBuilder::new(Backend::Services).proxies().start().await;
    let client = stack.client();
    let id = client.submit("test.gate", json!({})).await;
    stack.file_appears("started").await;
    let job = client.until_state(&id, "running").await;
    stack.services().database_proxy().cut();
    std::fs::write(stack.folder().join("go"), "").expect("written");
    stack.file_appears("ended").await;
    client.get("/readyz").await.expect(503);
    stack.services().database_proxy().restore();
    let done = client.succeeded(&id).await;
    assert_eq!((&done["attempt"], &done["worker"]), (&json!(1), &job["worker"]), "{done:#}");
}
