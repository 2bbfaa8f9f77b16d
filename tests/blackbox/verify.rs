//! `offload verify` beside everything that goes on: no false alarm, and no damage that it does not find.

use std::sync::Mutex;

use futures_util::stream::{self, StreamExt};
use offload_common::testing::eventually;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::support::{Backend, Stack, StackBuilder};

const JOBS: usize = 400;

fn body(n: usize) -> Value {
    match n % 20 {
        0 => json!({"kind": "echo", "payload": {"value": n, "sleep_seconds": 0.7}, "max_attempts": 1}),
        1 => json!({"kind": "echo", "payload": {"value": n, "fail_attempts": 1}}),
        2 => json!({"kind": "echo", "payload": {"value": n, "fail_attempts": 9}, "max_attempts": 2}),
        3 => json!({"kind": "echo", "payload": {"value": n}, "delay_seconds": 1.0}),
        4 => json!({"kind": "echo", "payload": {"value": n, "sleep_seconds": 60}, "priority": "low"}),
        5 => json!({"kind": "test.upper", "payload": {"n": "x"}, "priority": "high"}),
        6 => json!({"kind": "test.broken", "payload": {}}),
        _ => json!({"kind": "echo", "payload": {"value": n}}),
    }
}

/// Submits, and cancels what would take for ever.
async fn load(stack: &Stack, accepted: &Mutex<Vec<String>>) {
    let client = stack.client();
    let submitting = (0..JOBS).map(|n| async move {
        let id = client.submit_with(body(n)).await;
        accepted.lock().expect("not poisoned").push(id.clone());
        if n % 20 == 4 {
            let cancelled = client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
            assert!([200, 202].contains(&cancelled.status.as_u16()), "{cancelled:?}");
        }
    });
    stream::iter(submitting).buffer_unordered(16).collect::<()>().await;
}

async fn audit(stack: &Stack, accepted: &Mutex<Vec<String>>) {
    let ids = accepted.lock().expect("not poisoned").join("\n");
    std::fs::write(stack.folder().join("accepted"), ids).expect("written");
    let (code, said) = stack.verify(&["--state", "state", "--accepted", "accepted"]).await;
    assert_eq!((code, &said["clean"]), (Some(0), &json!(true)), "{said:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_stack_raises_no_alarm_and_damage_does() {
    let stack = StackBuilder::new(Backend::Services).workers(2).with("OFFLOAD_WORKER__SLOTS", "8").start().await;
    let accepted = Mutex::new(Vec::new());
    let auditing = async {
        while accepted.lock().expect("not poisoned").len() < JOBS {
            audit(&stack, &accepted).await;
        }
    };
    tokio::join!(load(&stack, &accepted), auditing);

    let mut database = PgConnection::connect(&stack.database_url()).await.expect("connected");
    let live = "SELECT count(*) FROM offload.jobs WHERE state NOT IN ('succeeded', 'failed', 'cancelled')";
    eventually("every job is final", async || {
        let live: i64 = sqlx::query_scalar(live).fetch_one(&mut database).await.expect("counted");
        (live == 0).then_some(())
    })
    .await;
    audit(&stack, &accepted).await;

    let [victim, gone] = {
        let accepted = accepted.lock().expect("not poisoned");
        [accepted[JOBS - 1].clone(), accepted[JOBS - 2].clone()]
    };
    let damage = [
        format!("UPDATE offload.jobs SET finished_at = NULL WHERE id = '{victim}'"),
        format!("DELETE FROM offload.jobs WHERE id = '{gone}'"),
    ];
    for statement in damage {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut database).await.expect("damaged");
    }
    let (code, said) = stack.verify(&["--accepted", "accepted"]).await;
    assert_eq!((code, &said["clean"]), (Some(1), &json!(false)), "{said:#}");
    let checks = said["checks"].as_array().expect("a list");
    let found: Vec<_> = checks
        .iter()
        .flat_map(|check| check["findings"].as_array().expect("a list").iter().map(move |one| (check, one)))
        .map(|(check, finding)| (check["check"].as_str(), finding["jobs"][0].as_str()))
        .collect();
    assert_eq!(found, [(Some("rows"), Some(&*victim)), (Some("accepted"), Some(&*gone))], "{said:#}");
}
