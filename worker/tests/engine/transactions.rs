//! What a handler writes commits with its job, or not at all.

use std::sync::Arc;

use offload_common::job::{NewJob, Nonce, State};
use offload_common::kind::Effects;
use offload_common::store::{Claim, Column, ColumnType, TableName};
use offload_common::testing::factory;
use offload_worker::kind::{AnyKind, Context, JobError};
use serde_json::{Value, json};

use crate::engine::support::{Bench, job, kind, numbered};

fn table() -> TableName {
    TableName { schema: "public".into(), table: "things".into() }
}

fn columns() -> Vec<Column> {
    vec![Column { name: "n".into(), kind: ColumnType::Integer }]
}

/// Writes a row in the job's transaction, then comes to the end that the payload says.
async fn write(job: &Context, payload: Value) -> Result<Value, JobError> {
    {
        let mut transaction = job.transaction().await?;
        transaction.create_table(&table(), &columns()).await?;
        transaction.insert(&table(), &columns(), vec![vec![Some("1".into())]]).await?;
    }
    // The same transaction, opened again.
    let changed = job.transaction().await?.execute("UPDATE things SET n = n + $1", &[json!(1)]).await?;
    match payload.as_str() {
        Some("fail") => Err(JobError::fail("asked_to", "")),
        Some("panic") => panic!("asked to"),
        Some("overflow") => Ok(json!("x".repeat(17 << 20))),
        Some("hang") => {
            job.stop().cancelled().await;
            Err(JobError::fail("stopped", ""))
        }
        _ => Ok(json!(changed)),
    }
}

fn writer() -> Arc<dyn AnyKind> {
    kind(Effects::Repeatable, |job, payload| Box::pin(write(job, payload)))
}

/// Whether the table is there, as a job sees it that starts after the others.
async fn table_is_there(bench: &Bench) -> bool {
    let session = bench.store.join(&factory::worker(&[])).await.expect("joined");
    let pointer = bench.accept(NewJob { kind: "another.kind".into(), ..job() }).await.expect("queued").pointer;
    let (nonce, running_for) = (Nonce::new(), std::time::Duration::ZERO);
    let claim = Claim { job: pointer.id, epoch: pointer.epoch, nonce, running_for };
    let lease = bench.store.claim(session.worker(), &[claim]).await.expect("claimed")[0].lease().expect("granted");
    let mut transaction = bench.store.begin(&lease).await.expect("begun");
    transaction.columns(&table()).await.expect("read").is_some()
}

#[tokio::test]
async fn it_commits_with_the_job() {
    let bench = Bench::new().await;
    let _worker = bench.worker(&[writer()]);
    let id = bench.submit(numbered(1)).await;
    let done = bench.reaches(id, State::Succeeded).await;
    assert_eq!((done.attempt, done.result.expect("a result").get()), (1, "1"));
    assert!(table_is_there(&bench).await);
}

#[tokio::test]
async fn whatever_is_no_success_rolls_it_back() {
    let bench = Bench::new().await;
    let _worker = bench.worker(&[writer()]);
    for end in [r#""fail""#, r#""panic""#, r#""overflow""#] {
        let id = bench.submit(NewJob { payload: factory::raw(end), max_attempts: 1, ..job() }).await;
        bench.reaches(id, State::Failed).await;
    }
    assert!(!table_is_there(&bench).await);
}

#[tokio::test]
async fn a_cancel_rolls_it_back() {
    let bench = Bench::new().await;
    let _worker = bench.worker(&[writer()]);
    let id = bench.submit(NewJob { payload: factory::raw(r#""hang""#), ..job() }).await;
    bench.reaches(id, State::Running).await;
    bench.store.cancel(factory::TENANT, id).await.expect("cancelled");
    bench.reaches(id, State::Cancelled).await;
    assert!(!table_is_there(&bench).await);
}
