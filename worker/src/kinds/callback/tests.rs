//! Deliveries to real servers on the loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::post;
use offload_common::testing::factory;
use tokio::net::TcpListener;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &str = r#"{"type": "job.succeeded",  "data": {"n": 1.50}}"#;

fn delivery(allow: &[&str], secrets: &[&str]) -> Delivery {
    let mut config = Config::defaults();
    config.egress.allow = allow.iter().map(|net| net.parse().expect("a network")).collect();
    config.callbacks.secrets = secrets.iter().map(|text| (*text).to_owned()).collect();
    Delivery::new(&config).expect("good secrets")
}

fn payload(url: String) -> Payload {
    Payload { url, subject: Uuid::from_u128(7), body: factory::raw(BODY) }
}

fn failure(error: JobError) -> Failure {
    match error {
        JobError::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A receiver that answers the status which its path names, and keeps what came.
async fn receiver() -> (SocketAddr, Arc<Mutex<Vec<(HeaderMap, String)>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let answer = move |Path(status): Path<u16>, headers: HeaderMap, body: String| async move {
        keep.lock().expect("unharmed").push((headers, body));
        let status = StatusCode::from_u16(status).expect("a status");
        let headers = [(header::LOCATION, "/200"), (header::RETRY_AFTER, "600")];
        (status, headers, "why").into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = Router::new().route("/{status}", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

#[tokio::test]
async fn a_message_is_signed_to_the_byte() {
    let (receiver, seen) = receiver().await;
    let delivery = delivery(&["127.0.0.0/8"], &[]);
    let own = Secret::try_from(SECRET.to_owned()).expect("a secret");
    let payload = payload(format!("http://{receiver}/204"));
    assert_eq!(delivery.deliver(&payload, Some(&own)).await.expect("it arrives").status, 204);
    let (headers, body) = seen.lock().expect("unharmed").remove(0);
    let text = |name: &str| headers[name].to_str().expect("text").to_owned();
    assert_eq!((body.as_str(), text("content-type")), (BODY, "application/json".to_owned()));
    assert_eq!(text("webhook-id"), message_id(payload.subject));
    let timestamp = text("webhook-timestamp").parse().expect("a number");
    assert!((clock::now().timestamp() - 60..=clock::now().timestamp()).contains(&timestamp));
    let expected = Signer { secrets: &[own], key: None }.sign(&text("webhook-id"), timestamp, BODY);
    assert_eq!(Some(text("webhook-signature")), expected);
}

#[tokio::test]
async fn statuses_become_outcomes() {
    let (receiver, seen) = receiver().await;
    let delivery = delivery(&["127.0.0.0/8"], &[SECRET]);
    for status in [301, 302, 307, 308, 400, 404, 429, 500, 503] {
        let outcome = delivery.deliver(&payload(format!("http://{receiver}/{status}")), None).await;
        let Failure { code, retry, message } = failure(outcome.expect_err("fails"));
        assert_eq!((code.as_str(), retry), ("http_status", Retry::After(Duration::from_secs(600))), "{status}");
        assert!(message.contains(&status.to_string()) && message.ends_with("why"), "{message}");
    }
    assert_eq!(seen.lock().expect("unharmed").len(), 9, "no redirect is followed");
    let gone = delivery.deliver(&payload(format!("http://{receiver}/410")), None).await.expect_err("fails");
    let Failure { code, retry, .. } = failure(gone);
    assert_eq!((code.as_str(), retry), ("callback_gone", Retry::Never));
}

#[tokio::test]
async fn what_cannot_be_signed_or_reached_is_not_sent() {
    let (receiver, seen) = receiver().await;
    let url = format!("http://{receiver}/200");
    for (delivery, code) in
        [(delivery(&["127.0.0.0/8"], &[]), "callback_unsigned"), (delivery(&[], &[SECRET]), "egress_refused")]
    {
        let outcome = delivery.deliver(&payload(url.clone()), None).await;
        assert_eq!(failure(outcome.expect_err("fails")).code, code);
    }
    assert!(seen.lock().expect("unharmed").is_empty());
}

#[test]
fn pauses_are_those_of_the_schedule_or_longer() {
    let second = Duration::from_secs;
    for (error, attempt, expected) in [
        (JobError::retry("c", ""), 1, Retry::After(second(5))),
        (JobError::retry("c", ""), 3, Retry::After(second(1800))),
        (JobError::retry_after("c", "", second(1)), 1, Retry::After(second(5))),
        (JobError::retry_after("c", "", second(600)), 1, Retry::After(second(600))),
        (JobError::fail("c", ""), 1, Retry::Never),
    ] {
        assert_eq!(failure(later(error, attempt)).retry, expected);
    }
    assert_eq!(later(JobError::LeaseLost, 1), JobError::LeaseLost);
}
