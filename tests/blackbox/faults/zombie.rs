//! A worker is stopped for longer than its lease and wakes up: it was presumed dead, and can do no harm.

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Backend, StackBuilder, samples};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_cannot_commit_twice() {
    const ROWS: usize = 200_000;
    let mut stack = StackBuilder::new(Backend::Services).workers(2).short_lease().start().await;
    let client = stack.client().clone();
    let file = client.upload("text/csv", samples::orders(ROWS)).await;
    let payload = json!({"source": {"file": file}, "table": "orders", "format": "csv", "create": true});
    let id = client.submit("table.import", payload).await;
    let job = client.until(&id, "is under way", |job| job["progress"]["fraction"].as_f64() > Some(0.0)).await;
    let holder = stack.worker_of(&job).await;
    stack.workers[holder].signal(Signal::STOP);
    let moved = |now: &Value| now["worker"] != job["worker"] && now["state"] != "queued";
    client.until(&id, "is taken over", moved).await;
    stack.workers[holder].signal(Signal::CONT);
    let done = client.succeeded(&id).await;
    assert_eq!((&done["attempt"], &done["result"]["rows"]), (&json!(1), &json!(ROWS)), "{done:#}");
    // The zombie finds out, joins again under a new id, and works like any other.
    let workers = client.workers(2).await;
    assert!(workers.iter().all(|worker| worker["id"] != job["worker"]), "{workers:#?}");
    let mut database = PgConnection::connect(&stack.database_url()).await.expect("connected");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut database).await.expect("counted");
    assert_eq!(rows, ROWS as i64);
    assert_eq!(client.job(&id).await, done, "and its end stays as it was");
}
