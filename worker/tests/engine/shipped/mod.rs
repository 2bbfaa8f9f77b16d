//! The kinds that ship, as jobs of a real worker, on the files of `samples/`.

mod echo;
mod exec;
mod http_call;
mod image_transform;
mod table_import;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use offload_common::config::Config;
use offload_common::job::{FileId, Job, JobId, NewJob, State};
use offload_common::testing::factory;
use offload_worker::kind::AnyKind;
use offload_worker::kinds;
use serde_json::{Value, json};

use crate::engine::support::{Bench, Running, job};

/// A worker that offers every kind, of a configuration that lets `http.call` reach the loopback and knows two programs.
fn worker(bench: &Bench) -> Running {
    worker_with(bench, &[])
}

fn worker_with(bench: &Bench, more: &[Arc<dyn AnyKind>]) -> Running {
    let mut config = Config::defaults();
    config.egress.allow = vec!["127.0.0.0/8".parse().expect("a network")];
    for (name, script) in [("test.answer", exec::ANSWER), ("test.wait", exec::WAIT)] {
        let program = json!({"command": ["sh", "-c", script]});
        config.kinds.insert(name.to_owned(), serde_json::from_value(program).expect("a program"));
    }
    let shipped = kinds::all(&config, &[]).expect("good kinds");
    bench.worker(&[shipped.as_slice(), more].concat())
}

fn new_job(kind: &str, payload: &Value) -> NewJob {
    NewJob { kind: kind.to_owned(), payload: factory::raw(&payload.to_string()), ..job() }
}

async fn submit(bench: &Bench, kind: &str, payload: Value) -> JobId {
    bench.submit(new_job(kind, &payload)).await
}

/// Runs a job, and answers its result.
async fn result(bench: &Bench, kind: &str, payload: Value) -> Value {
    let id = submit(bench, kind, payload).await;
    let job = bench.reaches(id, State::Succeeded).await;
    serde_json::from_str(job.result.expect("a result").get()).expect("JSON")
}

/// Runs a job that fails for good, and answers its code and message.
async fn failure(bench: &Bench, kind: &str, payload: Value) -> (String, String) {
    let id = submit(bench, kind, payload).await;
    let job: Job = bench.reaches(id, State::Failed).await;
    let error = job.error.expect("an error");
    (error.code, error.message)
}

async fn upload(bench: &Bench, content_type: &str, content: Vec<u8>) -> FileId {
    let content = stream::once(async move { Ok(Bytes::from(content)) }).boxed();
    bench.files.save(factory::TENANT, content_type, content, u64::MAX).await.expect("saved").id
}

async fn download(bench: &Bench, id: FileId) -> Vec<u8> {
    let content = bench.files.content(id, None).await.expect("there");
    let pieces: Vec<Bytes> = content.try_collect().await.expect("readable");
    pieces.concat()
}

fn sample(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
