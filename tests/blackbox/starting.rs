//! Starting: processes wait for absent services, and say what is missing.

use serde_json::json;

use crate::support::{Backend, StackBuilder};

/// API and worker start before the database and the broker are reachable, and before it is migrated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_may_come_later_than_the_processes() {
    let mut stack = StackBuilder::new(Backend::Services).proxies().prepare().await;
    stack.services().database_proxy().cut();
    stack.services().broker_proxy().cut();
    stack.start_api("offload api", &["api", "--listen", "127.0.0.1:0"]).await;
    stack.start_worker();
    let client = stack.client().clone();
    client.get("/livez").await.expect(200);
    client.get("/readyz").await.expect(503);
    let answer = client.post("/v1/jobs", &json!({"kind": "echo", "payload": {}})).await;
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    answer.problem(503);
    stack.services().database_proxy().restore();
    client.post("/v1/jobs", &json!({"kind": "echo", "payload": {}})).await.problem(503);
    stack.migrate().await;
    client.ready().await;
    client.workers(1).await;
    let id = client.submit("echo", json!({"value": "no broker yet"})).await;
    client.succeeded(&id).await;
    stack.services().broker_proxy().restore();
    assert!(stack.workers[0].is_running());
}
