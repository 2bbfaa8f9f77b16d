//! Listing jobs: filters and pages.

use serde_json::{Value, json};

use super::stack;
use crate::support::answer::Answer;
use crate::support::{Stack, on_both_backends};

on_both_backends! {
    filters_narrow_the_list
    pages_lead_through_the_list
}

fn ids(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect()
}

/// Where `Link` says that the next page is.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link").split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.trim().strip_prefix('<')?.split('>').next()?.to_owned())
}

async fn filters_narrow_the_list(stack: &Stack) {
    let client = stack.client();
    let tagged = client.submit_with(json!({"kind": "echo", "payload": {}, "tags": ["red", "a b"]})).await;
    let failed = client.submit("test.broken", json!({})).await;
    let later = client.submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 3600})).await;
    client.succeeded(&tagged).await;
    client.finished(&failed).await;
    for (query, expected) in [
        ("", vec![&later, &failed, &tagged]),
        ("?state=failed", vec![&failed]),
        ("?state=scheduled", vec![&later]),
        ("?state=running", vec![]),
        ("?kind=echo", vec![&later, &tagged]),
        ("?tag=red", vec![&tagged]),
        ("?tag=a%20b&kind=echo&state=succeeded", vec![&tagged]),
        ("?tag=blue", vec![]),
        ("?queue=default&limit=2", vec![&later, &failed]),
        ("?created_before=2020-01-01T00:00:00Z", vec![]),
        ("?created_after=2020-01-01T00:00:00Z&limit=1", vec![&later]),
    ] {
        let list = client.get(&format!("/v1/jobs{query}")).await.expect(200).json();
        assert_eq!(ids(&list), expected.into_iter().cloned().collect::<Vec<_>>(), "{query}");
    }
    for query in ["limit=0", "limit=1001", "state=done", "colour=red", "created_after=yesterday", "limit=2&limit=3"] {
        client.get(&format!("/v1/jobs?{query}")).await.problem(400);
    }
}

async fn pages_lead_through_the_list(stack: &Stack) {
    let client = stack.client();
    let mut submitted = Vec::new();
    for value in 0..7 {
        submitted
            .push(client.submit_with(json!({"kind": "echo", "payload": {"value": value}, "tags": ["page"]})).await);
    }
    submitted.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/jobs?tag=page&limit=3".to_owned());
    loop {
        let page = client.get(&path).await.expect(200);
        seen.extend(ids(&page.json()));
        // What arrives meanwhile belongs before the first page.
        client.submit_with(json!({"kind": "echo", "payload": {}, "tags": ["page"]})).await;
        match next(&page) {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(seen, submitted);
}
