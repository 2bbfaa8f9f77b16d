//! Many streams at once.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::events::Events;
use crate::support::{Backend, StackBuilder};

/// Many follow one job, and many follow one each: everybody gets the whole story, and the API stays small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_on_one_api() {
    let stack = StackBuilder::new(Backend::Services).start().await;
    let client = stack.client();
    let one = client.submit_with(json!({"kind": "echo", "payload": {"value": 1}, "delay_seconds": 3600})).await;
    let mut ids = vec![one.clone(); 500];
    for _ in 0..500 {
        ids.push(client.submit_with(json!({"kind": "echo", "payload": {}, "delay_seconds": 3600})).await);
    }
    let mut streams = Vec::new();
    for part in ids.chunks(100) {
        let opened = join_all(part.iter().map(|id| Events::of(client, id, None))).await;
        for mut stream in opened.into_iter().flatten() {
            assert_eq!(stream.next().await.expect("an event").data["state"], "scheduled");
            streams.push(stream);
        }
    }
    assert_eq!(streams.len(), ids.len());
    for id in ids[499..].iter() {
        client.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
    }
    for ends in join_all(streams.into_iter().map(Events::all)).await {
        let states: Vec<_> = ends.iter().map(|event| &event.data["state"]).collect();
        assert_eq!(states, ["cancelled"]);
    }
}
