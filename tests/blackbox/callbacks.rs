//! Callbacks, from outside: signed, once for each end, whoever dies, and their secrets shown by nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use offload_common::callback::{Secret, Signer, SigningKey};
use offload_common::testing::eventually;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    every_end_is_told_of_with_a_signature
    a_receiver_that_is_gone_ends_it
    nobody_submits_the_kind_or_sees_a_secret
}

const OWN: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const NEW: &str = "whsec_GBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIB";
const KEY: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

async fn stack(backend: Backend) -> Stack {
    let secrets = format!("{NEW},{OLD}");
    let builder = StackBuilder::new(backend).with("OFFLOAD_CALLBACKS__SECRETS", &secrets);
    builder.with("OFFLOAD_CALLBACKS__SIGNING_KEY", KEY).start().await
}

type Arrived = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// Answers the status that the path names, and keeps what came.
async fn receiver() -> (SocketAddr, Arrived) {
    let arrived = Arrived::default();
    let keep = arrived.clone();
    let answer = move |Path(status): Path<u16>, headers: HeaderMap, body: String| async move {
        keep.lock().unwrap_or_else(PoisonError::into_inner).push((headers, body));
        StatusCode::from_u16(status).expect("a status")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/{status}", post(answer))).await });
    (address, arrived)
}

/// The jobs that tell of a job, once they are final.
async fn told_of(client: &Client, id: &str) -> Vec<Value> {
    eventually("its end is told of", async || {
        let list = client.get(&format!("/v1/jobs?kind=callback&tag=job:{id}")).await.expect(200).json();
        let items = list["items"].as_array().expect("a list").clone();
        (!items.is_empty() && items.iter().all(|job| !job["finished_at"].is_null())).then_some(items)
    })
    .await
}

async fn every_end_is_told_of_with_a_signature(stack: &Stack) {
    let client = stack.client();
    let (receiver, arrived) = receiver().await;
    let submit = |secret: Value, payload: Value, more: Value| {
        let mut body = json!({"kind": "echo", "payload": payload,
            "callback": {"url": format!("http://{receiver}/204"), "secret": secret}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let good = client.submit_with(submit(json!(OWN), json!({"value": {"a": 1.50}}), json!({}))).await;
    let bad = json!({"fail_attempts": 1});
    let failed = client.submit_with(submit(Value::Null, bad, json!({"max_attempts": 1}))).await;
    let later = client.submit_with(submit(json!(OWN), json!({}), json!({"delay_seconds": 600}))).await;
    client.post(&format!("/v1/jobs/{later}/cancel"), &json!({})).await.expect(202);
    for (id, event) in [(&good, "job.succeeded"), (&failed, "job.failed"), (&later, "job.cancelled")] {
        let told = told_of(client, id).await;
        assert_eq!((told.len(), &told[0]["state"]), (1, &json!("succeeded")), "{told:#?}");
        assert_eq!(told[0]["payload"]["body"]["type"], event);
    }

    let arrived = std::mem::take(&mut *arrived.lock().unwrap_or_else(PoisonError::into_inner));
    let mut by_job = BTreeMap::new();
    for (headers, body) in &arrived {
        let message: Value = serde_json::from_str(body).expect("JSON");
        let id = message["data"]["id"].as_str().expect("an id").to_owned();
        assert!(by_job.insert(id, (headers, body, message)).is_none(), "each is told of once");
    }
    assert_eq!(by_job.len(), 3);
    assert_eq!(by_job[&good].2["data"]["result"]["value"]["a"], 1.5);
    assert_eq!(by_job[&failed].2["data"]["error"]["code"], "asked_to_fail");
    let secret = |text: &str| Secret::try_from(text.to_owned()).expect("a secret");
    let key = SigningKey::read(KEY).expect("a key");
    for (id, secrets) in
        [(&good, vec![secret(OWN)]), (&failed, vec![secret(NEW), secret(OLD)]), (&later, vec![secret(OWN)])]
    {
        let (headers, body, _) = &by_job[id];
        let text = |name: &str| headers[name].to_str().expect("text");
        let timestamp = text("webhook-timestamp").parse().expect("a number");
        let signer = Signer { secrets: &secrets, key: Some(&key) };
        assert_eq!(signer.sign(text("webhook-id"), timestamp, body).as_deref(), Some(text("webhook-signature")));
        assert_eq!(text("webhook-id"), format!("msg_{}", id.replace('-', "")));
    }
}

async fn a_receiver_that_is_gone_ends_it(stack: &Stack) {
    let client = stack.client();
    let (receiver, arrived) = receiver().await;
    let callback = json!({"url": format!("http://{receiver}/410"), "events": ["job.succeeded"]});
    let id = client.submit_with(json!({"kind": "echo", "payload": {}, "callback": callback})).await;
    let told = told_of(client, &id).await;
    assert_eq!((told.len(), &told[0]["error"]["code"]), (1, &json!("callback_gone")));
    // The same message again, to the byte, under the same id.
    let again = client.post(&format!("/v1/jobs/{}/retry", told[0]["id"].as_str().expect("an id")), &json!({})).await;
    client.failed(again.expect(202).json()["id"].as_str().expect("an id"), "callback_gone").await;
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let [(first, body), (second, same)] = &arrived[..] else { panic!("two tries: {arrived:?}") };
    assert_eq!((body, &first["webhook-id"]), (same, &second["webhook-id"]));
}

async fn nobody_submits_the_kind_or_sees_a_secret(stack: &Stack) {
    let client = stack.client();
    let payload = json!({"url": "http://127.0.0.1/", "subject": "00000000-0000-0000-0000-000000000000", "body": {}});
    let refused = client.post("/v1/jobs", &json!({"kind": "callback", "payload": payload})).await;
    assert_eq!(refused.expect(422).json()["errors"][0]["pointer"], "/kind");
    let (receiver, _) = receiver().await;
    let callback = json!({"url": format!("http://{receiver}/500"), "secret": OWN});
    let id = client.submit_with(json!({"kind": "echo", "payload": {}, "callback": callback})).await;
    client.succeeded(&id).await;
    let tried = eventually("it was tried", async || {
        let list = client.get(&format!("/v1/jobs?tag=job:{id}")).await.expect(200).json();
        list["items"][0].clone().as_object().filter(|job| job["error"].is_object()).cloned()
    })
    .await;
    assert_eq!((&tried["state"], &tried["error"]["code"]), (&json!("scheduled"), &json!("http_status")));
    let telling = tried["id"].as_str().expect("an id");
    for path in [
        format!("/v1/jobs/{id}"),
        format!("/v1/jobs/{telling}"),
        format!("/v1/jobs/{telling}/logs"),
        "/v1/jobs".to_owned(),
        "/v1/kinds".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        let shown = client.get(&path).await.expect(200).json().to_string();
        assert!([OWN, OLD, NEW, KEY].iter().all(|secret| !shown.contains(&secret[6..])), "{path}");
    }
}
