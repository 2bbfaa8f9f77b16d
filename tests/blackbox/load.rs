//! Many jobs of every kind over two workers: each runs once, and all succeed.

use futures_util::stream::{self, StreamExt};
use image::ImageFormat;
use offload_common::testing::eventually;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Backend, StackBuilder, samples};

const JOBS: usize = 500;

fn body(n: usize, picture: &str, csv: &str) -> Value {
    let payload = |kind: &str, payload: Value| {
        let priority = ["high", "normal", "low"][n % 3];
        json!({"kind": kind, "payload": payload, "priority": priority, "metadata": {"n": n}})
    };
    match n % 50 {
        0..5 => payload("echo", json!({"value": n, "sleep_seconds": 0.7})),
        5..8 => payload("echo", json!({"value": n, "fail_attempts": 1})),
        8 => payload(
            "image.transform",
            json!({
                "source": {"file": picture},
                "outputs": [{"name": "t", "format": "jpeg",
                             "operations": [{"op": "resize", "width": 16, "height": 16, "mode": "fit"}]}],
            }),
        ),
        9 => payload(
            "table.import",
            json!({
                "source": {"file": csv}, "table": "orders", "format": "csv", "create": true,
            }),
        ),
        10..12 => payload("test.upper", json!({"n": "x"})),
        _ => payload("echo", json!({"value": n})),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_mixed_jobs_succeed_once_each() {
    let stack = StackBuilder::new(Backend::Services).workers(2).start().await;
    let client = stack.client();
    let picture = client.upload("image/png", samples::picture(ImageFormat::Png, 64, 64)).await;
    let csv = client.upload("text/csv", samples::orders(20)).await;
    let bodies = (0..JOBS).map(|n| client.submit_with(body(n, &picture, &csv)));
    let ids: Vec<String> = stream::iter(bodies).buffered(32).collect().await;
    assert_eq!(ids.len(), JOBS);

    let mut database = PgConnection::connect(&stack.database_url()).await.expect("connected");
    let count = "SELECT count(*) FROM offload.jobs WHERE state IN ('succeeded', 'failed', 'cancelled')";
    eventually("every job is final", async || {
        let done: i64 = sqlx::query_scalar(count).fetch_one(&mut database).await.expect("counted");
        (done == JOBS as i64).then_some(())
    })
    .await;
    let states = "SELECT state::text, count(*), sum(attempt)::bigint FROM offload.jobs GROUP BY state";
    let states: Vec<(String, i64, i64)> = sqlx::query_as(states).fetch_all(&mut database).await.expect("read");
    // Three of each fifty failed once, as they were asked to.
    assert_eq!(states, [("succeeded".to_owned(), JOBS as i64, (JOBS + JOBS / 50 * 3) as i64)]);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut database).await.expect("counted");
    assert_eq!(rows, (JOBS / 50 * 20) as i64, "each import committed once");
    let workers = "SELECT count(DISTINCT worker_id) FROM offload.jobs";
    let workers: i64 = sqlx::query_scalar(workers).fetch_one(&mut database).await.expect("counted");
    assert_eq!(workers, 2, "both had their share");
}
