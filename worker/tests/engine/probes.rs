//! What a worker tells from outside.

use offload_common::kind::Effects;
use offload_worker::probes::{Probes, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::engine::support::{Bench, Gate};

/// Asks as a load balancer would; answers the status and the body.
async fn get(probes: &Probes, path: &str) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(serve(listener, probes.clone(), CancellationToken::new()));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    server.abort();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[tokio::test]
async fn a_worker_is_ready_while_it_takes_jobs() {
    let bench = Bench::new().await;
    let worker = bench.worker(&[Gate::new().kind(Effects::Repeatable)]);
    worker.ready().await;
    let (status, body) = get(&worker.probes, "/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["ready"], &body["running"]), (200, &true.into(), &0.into()));
    let probes = worker.probes.clone();
    worker.drain().await;
    let (status, body) = get(&probes, "/readyz").await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["reason"]), (503, &"it is draining".into()));
    assert_eq!(get(&probes, "/livez").await.0, 200);
}

#[tokio::test]
async fn without_a_database_it_is_alive_and_not_ready() {
    let bench = Bench::new().await;
    bench.store.close().await;
    let worker = bench.worker(&[]);
    let (status, body) = get(&worker.probes, "/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("it cannot reach the database"), "{body}");
    assert_eq!(get(&worker.probes, "/livez").await, (200, "ok\n".to_owned()));
}
