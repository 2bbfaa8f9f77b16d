//! What holds of every endpoint: files, kinds, probes, documents, headers.

use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdEncoder};
use image::ImageFormat;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::support::{Backend, Stack, StackBuilder, on_both_backends, samples};

on_both_backends! {
    a_file_comes_back_as_it_went_up
    a_form_uploads_too
    a_range_of_a_file_can_be_read
    every_kind_is_described
    bodies_are_compressed_both_ways
    probes_answer
    the_document_describes_every_path
    what_is_not_there_is_a_problem
    a_result_is_asked_for_too_early
    workers_and_queues_are_listed
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

async fn a_file_comes_back_as_it_went_up(stack: &Stack) {
    let client = stack.client();
    let mut content = samples::picture(ImageFormat::Png, 600, 400);
    content.extend((0..3_000_000u32).flat_map(u32::to_le_bytes));
    let request = client.request(Method::POST, "/v1/files").header("content-type", "image/png").body(content.clone());
    let answer = client.send(request).await.expect(201);
    let file = answer.json();
    let id = file["id"].as_str().expect("an id");
    assert_eq!(answer.header("location"), format!("/v1/files/{id}"));
    let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&file["bytes"], &file["content_type"]), (&json!(content.len()), &json!("image/png")));
    assert_eq!(file["sha256"], digest);
    let back = client.get(&format!("/v1/files/{id}")).await.expect(200);
    assert_eq!((back.header("content-type"), back.body == content), ("image/png", true));
    let head = client.send(client.request(Method::HEAD, &format!("/v1/files/{id}"))).await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (content.len().to_string().as_str(), 0));
}

async fn bodies_are_compressed_both_ways(stack: &Stack) {
    let client = stack.client();
    let lines: String = (0..500).map(|n| json!({"kind": "echo", "payload": {"value": n}}).to_string() + "\n").collect();
    let send = async |encoding: &str, body: Vec<u8>| {
        let request = client.request(Method::POST, "/v1/batches").header("content-type", "application/x-ndjson");
        client.send(request.header("content-encoding", encoding).body(body)).await
    };
    let (mut gzip, mut zstd) = (Vec::new(), Vec::new());
    GzipEncoder::new(lines.as_bytes()).read_to_end(&mut gzip).await.expect("compressed");
    ZstdEncoder::new(lines.as_bytes()).read_to_end(&mut zstd).await.expect("compressed");
    for (encoding, body) in [("gzip", &gzip), ("zstd", &zstd)] {
        assert_eq!(send(encoding, body.clone()).await.expect(202).json()["total"], 500, "{encoding}");
        send(encoding, body[..body.len() / 2].to_vec()).await.problem(400);
    }
    let refused = send("br", gzip).await;
    assert_eq!(refused.header("accept-encoding"), "gzip, zstd");
    refused.problem(415);

    let plain = client.get("/openapi.json").await.expect(200);
    let packed = client.send(client.request(Method::GET, "/openapi.json").header("accept-encoding", "gzip")).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
    let mut unpacked = Vec::new();
    GzipDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).await.expect("whole");
    assert!(packed.body.len() * 3 < plain.body.len() && unpacked == plain.body);
}

async fn a_form_uploads_too(stack: &Stack) {
    let client = stack.client();
    let form = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\ncontent-type: text/csv\r\n\r\n\
                a,b\r\n1,2\r\n\r\n--x--\r\n";
    let request = client.request(Method::POST, "/v1/files").header("content-type", "multipart/form-data; boundary=x");
    let file = client.send(request.body(form)).await.expect(201).json();
    assert_eq!((&file["bytes"], &file["content_type"]), (&json!(10), &json!("text/csv")));
    let back = client.get(&format!("/v1/files/{}", file["id"].as_str().expect("an id"))).await.expect(200);
    assert_eq!(back.text(), "a,b\r\n1,2\r\n");
}

async fn a_range_of_a_file_can_be_read(stack: &Stack) {
    let client = stack.client();
    let id = client.upload("text/plain", "0123456789").await;
    let ranged = async |range: &str| {
        client.send(client.request(Method::GET, &format!("/v1/files/{id}")).header("range", range)).await
    };
    for (range, content, place) in
        [("bytes=2-4", "234", "bytes 2-4/10"), ("bytes=7-", "789", "bytes 7-9/10"), ("bytes=-2", "89", "bytes 8-9/10")]
    {
        let part = ranged(range).await.expect(206);
        assert_eq!((part.text(), part.header("content-range")), (content, place), "{range}");
    }
    let beyond = ranged("bytes=10-").await;
    assert_eq!(beyond.header("content-range"), "bytes */10");
    beyond.problem(416);
}

async fn every_kind_is_described(stack: &Stack) {
    let kinds = stack.client().get("/v1/kinds").await.expect(200).json();
    let kinds = kinds["items"].as_array().expect("a list");
    for name in ["echo", "exec", "http.call", "image.transform", "table.import", "test.upper"] {
        let Some(kind) = kinds.iter().find(|kind| kind["name"] == name) else {
            assert_eq!(name, "exec", "{name} is missing: {kinds:#?}");
            continue;
        };
        assert_eq!(kind["live"], true, "{name}");
        assert!(kind["payload_schema"].is_object(), "{name}");
    }
}

async fn probes_answer(stack: &Stack) {
    for probe in ["/livez", "/readyz"] {
        stack.client().get(probe).await.expect(200);
    }
}

async fn the_document_describes_every_path(stack: &Stack) {
    let client = stack.client();
    let document = client.get("/openapi.json").await.expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in [
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/result",
        "/v1/jobs/{id}/logs",
        "/v1/jobs/{id}/cancel",
        "/v1/jobs/{id}/retry",
        "/v1/files",
        "/v1/files/{id}",
        "/v1/kinds",
        "/v1/workers",
        "/livez",
        "/readyz",
    ] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    assert!(client.get("/docs").await.expect(200).header("content-type").starts_with("text/html"));
}

async fn what_is_not_there_is_a_problem(stack: &Stack) {
    let client = stack.client();
    let missing = "0199f6c2-0000-7000-8000-000000000000";
    for path in [
        "/nothing".to_owned(),
        "/v1".to_owned(),
        "/v1/jobs/17".to_owned(),
        format!("/v1/jobs/{missing}"),
        format!("/v1/jobs/{missing}/result"),
        format!("/v1/jobs/{missing}/logs"),
        format!("/v1/files/{missing}"),
    ] {
        assert_eq!(client.get(&path).await.problem(404)["type"], "/problems/not-found", "{path}");
    }
    for action in ["cancel", "retry"] {
        client.post(&format!("/v1/jobs/{missing}/{action}"), &json!({})).await.problem(404);
    }
    let answer = client.send(client.request(Method::DELETE, "/v1/jobs")).await;
    assert!(answer.header("allow").contains("POST"), "it says what is allowed");
    answer.problem(405);
}

async fn a_result_is_asked_for_too_early(stack: &Stack) {
    let client = stack.client();
    let id = client.submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 3600})).await;
    let answer = client.get(&format!("/v1/jobs/{id}/result")).await;
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    answer.problem(409);
}

async fn workers_and_queues_are_listed(stack: &Stack) {
    let client = stack.client();
    let workers = client.get("/v1/workers").await.expect(200).json();
    let worker = &workers["items"][0];
    assert!(worker["slots"].as_u64() > Some(0) && worker["version"].is_string(), "{workers}");
    let queues = client.get("/v1/queues").await.expect(200).json();
    assert!(queues["items"].as_array().is_some_and(|queues| queues.iter().any(|queue| queue["name"] == "default")));
}
