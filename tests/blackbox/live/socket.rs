//! The same over a WebSocket.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::events::{Event, story};
use crate::support::{Backend, Stack, StackBuilder, on_both_backends};

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

on_both_backends! {
    a_socket_tells_the_same_story
    a_socket_is_resumed_behind_any_event
    a_client_that_closes_is_let_go
    what_is_no_socket_is_a_problem
}

/// As much of a WebSocket client as it takes to listen (RFC 6455).
struct Socket(TcpStream);

impl Socket {
    async fn open(stack: &Stack, path: &str) -> Self {
        let address = stack.client().base().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("a head"));
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The answer to this key that the RFC has worked out.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        Self(stream)
    }

    /// The next frame: its kind and content.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let kind = self.0.read_u8().await.expect("a frame") & 0x0f;
        let length = match self.0.read_u8().await.expect("a length") {
            126 => u64::from(self.0.read_u16().await.expect("a length")),
            127 => self.0.read_u64().await.expect("a length"),
            length => u64::from(length),
        };
        let mut content = vec![0; length as usize];
        self.0.read_exact(&mut content).await.expect("content");
        (kind, content)
    }

    /// Every event up to the close, with its code.
    async fn all(mut self) -> (Vec<Event>, u16) {
        let mut all = Vec::new();
        loop {
            match self.frame().await {
                (1, text) => {
                    let event: Value = serde_json::from_slice(&text).expect("JSON");
                    let text = |member: &str| event[member].as_str().expect("a text").to_owned();
                    all.push(Event { id: text("id"), name: text("event"), data: event["data"].clone() });
                }
                (8, close) => return (all, u16::from_be_bytes([close[0], close[1]])),
                _ => {}
            }
        }
    }
}

async fn a_socket_tells_the_same_story(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"sleep_seconds": 1, "fail_attempts": 1})).await;
    let (live, code) = Socket::open(stack, &format!("/v1/jobs/{id}/ws")).await.all().await;
    assert_eq!(code, 1000);
    assert_eq!(live, story(client, &id).await);
}

async fn a_socket_is_resumed_behind_any_event(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("test.upper", json!({"text": "hello"})).await;
    client.succeeded(&id).await;
    let all = story(client, &id).await;
    for (place, event) in all.iter().enumerate() {
        let path = format!("/v1/jobs/{id}/ws?last_event_id={}", event.id);
        let rest = Socket::open(stack, &path).await.all().await;
        assert_eq!(rest, (all[place + 1..].to_vec(), 1000));
    }
}

/// The client's close is answered, and then the connection ends.
async fn a_client_that_closes_is_let_go(stack: &Stack) {
    let client = stack.client();
    let id = client.submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 600})).await;
    let mut socket = Socket::open(stack, &format!("/v1/jobs/{id}/ws")).await;
    assert_eq!(socket.frame().await.0, 1);
    // Close, 1001, masked with zeroes.
    socket.0.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).await.expect("written");
    assert_eq!(socket.frame().await, (8, 1001_u16.to_be_bytes().to_vec()));
    assert_eq!(socket.0.read(&mut [0]).await.expect("an end"), 0);
}

/// A drained API says so to those who listen, and waits for no job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_api_closes_its_sockets() {
    let mut stack = StackBuilder::new(Backend::Services).with("OFFLOAD_SERVER__DRAIN_SECONDS", "600").start().await;
    let body = json!({"kind": "echo", "payload": {}, "delay_seconds": 600});
    let id = stack.client().submit_with(body).await;
    let mut socket = Socket::open(&stack, &format!("/v1/jobs/{id}/ws")).await;
    assert_eq!(socket.frame().await.0, 1);
    let mut api = stack.api.take().expect("started");
    api.signal(Signal::TERM);
    let (events, code) = socket.all().await;
    assert_eq!((events.len(), code), (0, 1012));
    assert!(api.exit().await.success());
}

async fn what_is_no_socket_is_a_problem(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("echo", json!({"value": 1})).await;
    let problem = client.get(&format!("/v1/jobs/{id}/ws")).await.problem(400);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("/events")), "{problem}");
    client.get(&format!("/v1/jobs/{id}/ws?last_event_id=x")).await.problem(400);
}
