//! What only shows over a socket: shutdown, connections that break, clients that write before they read.

use std::net::SocketAddr;
use std::path::Path;

use offload_common::store::Store;
use offload_common::testing::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::testing::{Settings, TestApp};

struct Served {
    app: TestApp,
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Served {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let app = TestApp::start_with(change).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(app.another().await.serve(listener, app.stop.clone()));
        Self { app, address, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }
}

async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("written");
}

/// Reads to the end of the connection; answers the status line and the body.
async fn read(mut stream: TcpStream) -> (String, Value) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a whole answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().expect("a line").to_owned(), serde_json::from_str(body).unwrap_or_default())
}

fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_shutdown_answers_who_waits_and_takes_nobody_new() {
    let served = Served::start(|_| ()).await;
    let id = served.app.submit(json!({})).await;
    let mut waiting = served.connect().await;
    write(&mut waiting, &format!("GET /v1/jobs/{id}?wait=50 HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    // An idle connection must not hold up the shutdown.
    let _idle = served.connect().await;
    let mut probe = served.connect().await;
    write(&mut probe, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(read(probe).await.0, "HTTP/1.1 200 OK", "the server takes requests by now");
    served.app.stop.cancel();
    let (status, job) = read(waiting).await;
    assert_eq!((status.as_str(), &job["state"]), ("HTTP/1.1 200 OK", &json!("queued")));
    served.serving.await.expect("joined").expect("ended well");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up_after_the_grace_time() {
    let served = Served::start(|settings| settings.server.drain_seconds = 0).await;
    let mut stalled = served.connect().await;
    let head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf";
    write(&mut stalled, head).await;
    let folder = served.app.folder.path().join("files");
    eventually("the upload to begin", async || files_in(&folder).pop()).await;
    served.app.stop.cancel();
    served.serving.await.expect("joined").expect("ended well");
}

#[tokio::test]
async fn a_client_that_writes_first_and_reads_later_sees_the_refusal() {
    let served = Served::start(|settings| settings.server.max_body_bytes = 1000).await;
    let body = "x".repeat(4 << 20);
    for (path, content_type, status) in [
        ("/v1/jobs", "application/json", "HTTP/1.1 413 Payload Too Large"),
        ("/v1/jobs", "text/plain", "HTTP/1.1 415 Unsupported Media Type"),
        ("/nonesuch", "application/json", "HTTP/1.1 404 Not Found"),
        ("/livez", "application/json", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        let mut stream = served.connect().await;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        write(&mut stream, &head).await;
        write(&mut stream, &body).await;
        assert_eq!(read(stream).await.0, status, "{path}");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let served = Served::start(|_| ()).await;
    let folder = served.app.folder.path().join("files");
    let mut stream = served.connect().await;
    let head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    write(&mut stream, head).await;
    write(&mut stream, &"x".repeat(100_000)).await;
    eventually("the upload to begin", async || files_in(&folder).pop()).await;
    drop(stream);
    eventually("nothing to be left", async || files_in(&folder).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_job() {
    let served = Served::start(|_| ()).await;
    let mut stream = served.connect().await;
    let body = json!({"kind": "test.kind", "payload": {"value": 1}}).to_string();
    let length = body.len();
    let head = "POST /v1/jobs?wait=50 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    write(&mut stream, &format!("{head}Content-Length: {length}\r\n\r\n{body}")).await;
    let filter = offload_common::testing::factory::filter();
    let store = &served.app.store;
    eventually("the job", async || store.jobs(&filter).await.expect("listed").pop()).await;
    drop(stream);
    // The hub forgets who left, and goes on serving the others.
    let job = store.jobs(&filter).await.expect("listed").remove(0).id;
    let path = format!("/v1/jobs/{job}?wait=50");
    let working = served.app.run(job, offload_common::job::transition::Event::Succeed, None);
    let (answer, ()) = tokio::join!(served.app.get(&path), working);
    assert_eq!(answer.json()["state"], "succeeded");
}
