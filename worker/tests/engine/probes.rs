//! What a worker tells from outside.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use offload_common::job::State;
use offload_common::kind::Effects;
use offload_common::testing::eventually;
use offload_worker::probes::{Probes, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::engine::support::faulty::{Faults, Faulty};
use crate::engine::support::{Bench, Gate, job};

async fn bench() -> (Bench, Arc<Faults>) {
    let mut bench = Bench::new().await;
    (bench.config.watchdog_seconds, bench.config.slots) = (0.5, 2);
    let faults = Arc::new(Faults::default());
    bench.store = Arc::new(Faulty { store: bench.store.clone(), faults: faults.clone() });
    (bench, faults)
}

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

#[tokio::test]
async fn a_worker_that_lets_work_wait_is_to_be_restarted() {
    let (bench, faults) = bench().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    worker.ready().await;
    faults.starts_held.send_replace(true);
    let id = bench.submit(job()).await;
    let complaint = eventually("it is noticed", async || worker.probes.complaint()).await;
    assert!(complaint.contains("started nothing"), "{complaint}");
    assert_eq!(get(&worker.probes, "/livez").await, (503, complaint + "\n"));
    faults.starts_held.send_replace(false);
    assert_eq!(gate.started().await.0, id);
    assert_eq!(get(&worker.probes, "/livez").await.0, 200);
    gate.let_through(1);
    bench.reaches(id, State::Succeeded).await;
}

/// Each beat is followed by a look: so many that the time is long up.
#[tokio::test]
async fn who_has_no_work_or_no_room_is_alive() {
    let (bench, faults) = bench().await;
    let gate = Gate::new();
    let worker = bench.worker(&[gate.kind(Effects::Unsafe)]);
    let looks = async |count| {
        let mut looks = faults.looks.subscribe();
        let enough = *looks.borrow_and_update() + count;
        looks.wait_for(|looks| *looks >= enough).await.expect("the sender is here");
        assert_eq!(worker.probes.complaint(), None);
    };
    looks(10).await;
    let ids = [bench.submit(job()).await, bench.submit(job()).await, bench.submit(job()).await];
    gate.started().await;
    gate.started().await;
    looks(10).await;
    gate.let_through(3);
    for id in ids {
        bench.reaches(id, State::Succeeded).await;
    }
    looks(10).await;
}

#[tokio::test]
async fn a_worker_that_lost_a_part_is_to_be_restarted() {
    let (bench, faults) = bench().await;
    let worker = bench.worker(&[]);
    worker.ready().await;
    faults.panics.beat.store(1, Ordering::SeqCst);
    eventually("it is noticed", async || worker.probes.complaint()).await;
    assert_eq!(get(&worker.probes, "/livez").await, (503, "the heartbeat has died\n".to_owned()));
}
