//! Each kind on real input.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use image::{GenericImageView, ImageFormat};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::stack;
use crate::support::{Stack, on_both_backends, samples};

on_both_backends! {
    echo_answers_its_payload
    an_image_is_transformed
    a_broken_image_fails_with_a_reason
    a_call_goes_out_and_its_answer_comes_back
    a_refused_address_is_not_called
    a_file_is_imported_into_a_table
    a_bad_row_imports_nothing
    a_program_runs
    a_program_that_fails_says_why
}

async fn echo_answers_its_payload(stack: &Stack) {
    let client = stack.client();
    let value = json!({"text": "Grüße 🦀 \"quoted\"", "numbers": [0, -1, 1.5, 1e300], "nested": {"": [null, true]}});
    let id = client.submit("echo", json!({"value": value})).await;
    let job = client.succeeded(&id).await;
    assert_eq!(job["result"]["value"], value);
    let result = client.get(&format!("/v1/jobs/{id}/result")).await.expect(200);
    assert_eq!(result.header("content-type"), "application/json");
    assert_eq!(result.json()["value"], value);
}

/// The picture's file is as it was declared, and shows what was asked for.
async fn check_output(stack: &Stack, output: &Value, format: ImageFormat, width: u32, height: u32) {
    assert_eq!((&output["width"], &output["height"]), (&json!(width), &json!(height)), "{output}");
    let path = format!("/v1/files/{}", output["file"].as_str().expect("an id"));
    let file = stack.client().get(&path).await.expect(200);
    assert_eq!(file.header("content-type"), output["content_type"].as_str().expect("text"));
    assert_eq!(file.body.len() as u64, output["bytes"].as_u64().expect("a number"));
    assert_eq!(image::guess_format(&file.body).expect("an image"), format);
    let picture = image::load_from_memory(&file.body).expect("it decodes");
    assert_eq!(picture.dimensions(), (width, height));
}

async fn an_image_is_transformed(stack: &Stack) {
    let client = stack.client();
    let source = client.upload("image/png", samples::picture(ImageFormat::Png, 400, 200)).await;
    let payload = json!({
        "source": {"file": source},
        "outputs": [
            {"name": "thumb", "format": "jpeg", "quality": 80,
             "operations": [{"op": "resize", "width": 100, "height": 100, "mode": "fit"}]},
            {"name": "square", "format": "png",
             "operations": [{"op": "resize", "width": 64, "height": 64, "mode": "fill"}]},
            {"name": "turned", "format": "webp",
             "operations": [{"op": "crop", "x": 0, "y": 0, "width": 200, "height": 100}, {"op": "rotate", "degrees": 90}]},
        ]
    });
    let id = client.submit("image.transform", payload).await;
    let job = client.succeeded(&id).await;
    let outputs = job["result"]["outputs"].as_array().expect("a list");
    let names: Vec<_> = outputs.iter().map(|output| output["name"].as_str().expect("text")).collect();
    assert_eq!(names, ["thumb", "square", "turned"]);
    assert_eq!(job["progress"]["fraction"], 1.0, "what has succeeded is complete");
    check_output(stack, &outputs[0], ImageFormat::Jpeg, 100, 50).await;
    check_output(stack, &outputs[1], ImageFormat::Png, 64, 64).await;
    check_output(stack, &outputs[2], ImageFormat::WebP, 100, 200).await;
}

async fn a_broken_image_fails_with_a_reason(stack: &Stack) {
    let client = stack.client();
    let output = json!([{"name": "o", "format": "png", "operations": []}]);
    let text = client.upload("image/png", "this is not a picture").await;
    let id = client.submit("image.transform", json!({"source": {"file": text}, "outputs": output})).await;
    let job = client.failed(&id, "unsupported_image").await;
    assert_eq!(job["attempt"], 1, "trying again cannot help");
    let missing = "0199f6c2-0000-7000-8000-000000000000";
    let id = client.submit("image.transform", json!({"source": {"file": missing}, "outputs": output})).await;
    client.failed(&id, "file_not_found").await;
}

/// A server that somebody else runs: it is busy at the first call, and says what it was sent.
async fn third_party() -> (SocketAddr, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let answer = async |State(calls): State<Arc<AtomicUsize>>, headers: HeaderMap, body: String| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let key = headers.get("idempotency-key").map_or("", |key| key.to_str().unwrap_or_default());
        axum::Json(json!({"received": body, "key": key})).into_response()
    };
    let missing = get(async || (StatusCode::NOT_FOUND, "no such thing"));
    let router = Router::new().route("/orders", any(answer)).route("/missing", missing).with_state(calls.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, calls)
}

async fn a_call_goes_out_and_its_answer_comes_back(stack: &Stack) {
    let (address, calls) = third_party().await;
    let client = stack.client();
    let url = format!("http://{address}/orders");
    let call = json!({"method": "POST", "url": url, "headers": {"x-shop": "1"}, "body": "two apples"});
    let id = client.submit("http.call", call).await;
    let job = client.succeeded(&id).await;
    assert_eq!(job["result"]["status"], 200);
    assert_eq!(job["result"]["json"], json!({"received": "two apples", "key": id}), "the key is the job's id");
    assert_eq!((&job["attempt"], calls.load(Ordering::SeqCst)), (&json!(2), 2), "a busy server is asked again");
    let missing = json!({"method": "GET", "url": format!("http://{address}/missing")});
    let id = client.submit("http.call", missing).await;
    let job = client.failed(&id, "http_status").await;
    assert_eq!(job["attempt"], 1, "what is not there will not be there");
}

async fn a_refused_address_is_not_called(stack: &Stack) {
    for url in ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[::1]:1/", "http://0.0.0.0/"] {
        let id = stack.client().submit("http.call", json!({"method": "GET", "url": url})).await;
        let job = stack.client().failed(&id, "egress_refused").await;
        assert_eq!(job["attempt"], 1);
    }
}

fn import_of(file: &str) -> Value {
    json!({
        "source": {"file": file}, "table": "orders", "format": "csv", "create": true,
        "columns": [
            {"name": "id", "type": "integer"}, {"name": "customer", "type": "text"},
            {"name": "total", "type": "numeric"}, {"name": "placed", "type": "date"},
        ]
    })
}

async fn a_file_is_imported_into_a_table(stack: &Stack) {
    let client = stack.client();
    for _ in 0..2 {
        let file = client.upload("text/csv", samples::orders(3000)).await;
        let id = client.submit("table.import", import_of(&file)).await;
        let job = client.succeeded(&id).await;
        assert_eq!(job["result"]["rows"], 3000);
        assert_eq!(job["progress"], json!({"fraction": 1.0, "message": "3000 rows"}));
    }
}

async fn a_bad_row_imports_nothing(stack: &Stack) {
    let client = stack.client();
    let file = client.upload("text/csv", samples::orders(50) + "51,x,not a number,2026-01-01\r\n").await;
    let id = client.submit("table.import", import_of(&file)).await;
    let job = client.failed(&id, "bad_rows").await;
    let message = job["error"]["message"].as_str().expect("text");
    assert!(message.contains("52"), "it names the line: {message}");
}

async fn a_program_runs(stack: &Stack) {
    let client = stack.client();
    let id = client.submit("test.upper", json!({"word": "quiet"})).await;
    let job = client.succeeded(&id).await;
    assert_eq!(job["result"], json!({"WORD": "QUIET"}));
    let logs = client.get(&format!("/v1/jobs/{id}/logs")).await.expect(200).json();
    let lines: Vec<_> = logs["items"].as_array().expect("a list").iter().map(|line| &line["message"]).collect();
    assert_eq!(lines, ["reading"], "a progress line is no log line");
    assert_eq!(job["progress"], json!({"fraction": 0.5, "message": "halfway"}));
    let id = client.submit("test.flaky", json!({})).await;
    let job = client.succeeded(&id).await;
    assert_eq!(job["result"], json!({"attempt": 2}));
    assert_eq!(job["history"].as_array().map(Vec::len), Some(1), "exit 75 is tried again");
}

async fn a_program_that_fails_says_why(stack: &Stack) {
    let id = stack.client().submit("test.broken", json!({})).await;
    let job = stack.client().finished(&id).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(1)));
    let message = job["error"]["message"].as_str().expect("text");
    assert!(message.contains("out of paper") && message.contains('3'), "{message}");
}
