//! Chains, from outside: jobs that run after others, whatever becomes of those and of the workers.

use offload_common::testing::eventually;
use serde_json::{Value, json};

use crate::batches::{finished, lines, verify};
use crate::support::{Backend, Client, Stack, StackBuilder, on_both_backends};

on_both_backends! {
    a_chain_of_a_thousand_runs_in_order
    a_job_may_run_after_ten_thousand
    a_program_finds_what_became_of_its_parents
    what_follows_a_failure_goes_by_its_policy
    a_cancelled_job_takes_along_what_follows_it
    parents_that_are_not_there_are_named
}

async fn stack(backend: Backend) -> Stack {
    StackBuilder::new(backend).start().await
}

/// A job of a batch, as a line.
fn line(more: &Value) -> String {
    let mut job = json!({"kind": "echo", "payload": {}});
    job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    job.to_string() + "\n"
}

/// Waits until so many jobs of a batch have succeeded, step by step: each step has a deadline of its own.
async fn succeeded(client: &Client, batch: &Value, total: u64) {
    let path = batch["links"]["self"].as_str().expect("a link");
    for step in 1..=10 {
        let wanted = total * step / 10;
        eventually(&format!("{wanted} of the batch have succeeded"), async || {
            let counts = client.get(path).await.json()["counts"].clone();
            (counts["succeeded"].as_u64()? >= wanted).then_some(())
        })
        .await;
    }
}

async fn a_chain_of_a_thousand_runs_in_order(stack: &Stack) {
    let client = stack.client();
    let first = line(&json!({"ref": "0"}));
    let rest = (1..1000).map(|n| line(&json!({"ref": n.to_string(), "after": [format!("ref:{}", n - 1)]})));
    let batch = lines(client, None, first + &rest.collect::<String>()).await.expect(202).json();
    succeeded(client, &batch, 1000).await;
    // The newest first: each began when the next of the list had ended.
    let list =
        client.get(&format!("/v1/jobs?batch_id={}&limit=200", batch["id"].as_str().expect("an id"))).await.json();
    let jobs = list["items"].as_array().expect("a list");
    assert_eq!(jobs.len(), 200);
    for pair in jobs.windows(2) {
        assert_eq!(pair[0]["parents"]["jobs"], json!([pair[1]["id"]]));
        assert!(pair[0]["started_at"].as_str() >= pair[1]["finished_at"].as_str(), "{pair:#?}");
    }
    assert_eq!(stack.verify(&verify(stack)).await.0, Some(0));
}

async fn a_job_may_run_after_ten_thousand(stack: &Stack) {
    let client = stack.client();
    let parents: String = (0..10_000).map(|n| line(&json!({"ref": n.to_string()}))).collect();
    let after: Vec<String> = (0..10_000).map(|n| format!("ref:{n}")).collect();
    let last = line(&json!({"after": after, "tags": ["last"]}));
    let batch = lines(client, None, parents + &last).await.expect(202).json();
    let last = client.get("/v1/jobs?tag=last").await.json()["items"][0].clone();
    assert_eq!((&last["parents"]["total"], &last["parents"]["policy"]), (&json!(10_000), &json!("cancel")));
    assert_eq!(last["parents"]["jobs"].as_array().map(Vec::len), Some(100), "the first of them");
    succeeded(client, &batch, 10_001).await;
    let last = client.job(last["id"].as_str().expect("an id")).await;
    assert_eq!((&last["state"], &last["parents"]["waiting"]), (&json!("succeeded"), &json!(0)));
    assert_eq!(stack.verify(&verify(stack)).await.0, Some(0));
}

async fn a_program_finds_what_became_of_its_parents(stack: &Stack) {
    let client = stack.client();
    let good = client.submit("echo", json!({"value": {"n": 1}})).await;
    let bad = client.submit_with(json!({"kind": "test.broken", "payload": {}, "max_attempts": 1})).await;
    client.failed(&bad, "exit_status").await;
    let body = json!({"kind": "test.parents", "payload": {}, "after": [bad, good], "after_policy": "run"});
    let id = client.submit_with(body).await;
    let job = client.succeeded(&id).await;
    let ends = job["result"].as_array().expect("the file");
    assert_eq!(ends.len(), 2);
    assert_eq!((&ends[0]["job"], &ends[0]["state"]), (&json!(bad), &json!("failed")));
    assert_eq!((&ends[0]["error"]["code"], &ends[0]["result"]), (&json!("exit_status"), &Value::Null));
    assert_eq!(
        ends[1],
        json!({
            "job": good, "state": "succeeded", "result": {"value": {"n": 1}}, "error": null, "left_out": false,
        })
    );
    let events = client.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(events["parents"], json!({"total": 2, "waiting": 0, "policy": "run", "jobs": [bad, good]}));
}

async fn what_follows_a_failure_goes_by_its_policy(stack: &Stack) {
    let client = stack.client();
    let bad = client.submit_with(json!({"kind": "test.broken", "payload": {}, "max_attempts": 1})).await;
    let careful = client.submit_with(json!({"kind": "echo", "payload": {}, "after": [bad]})).await;
    let next = client.submit_with(json!({"kind": "echo", "payload": {}, "after": [careful]})).await;
    let bold = client.submit_with(json!({"kind": "echo", "payload": {}, "after": [bad], "after_policy": "run"})).await;
    client.succeeded(&bold).await;
    for (job, parent, how) in [(&careful, &bad, "failed"), (&next, &careful, "was cancelled")] {
        let over = client.finished(job).await;
        assert_eq!((&over["state"], &over["error"]["code"]), (&json!("cancelled"), &json!("parent_not_succeeded")));
        let message = format!("job {parent}, which this one was to run after, {how}");
        assert_eq!(over["error"]["message"], json!(message));
        assert_eq!((&over["attempt"], &over["started_at"]), (&json!(0), &Value::Null));
    }
    assert_eq!(stack.verify(&verify(stack)).await.0, Some(0));
}

async fn a_cancelled_job_takes_along_what_follows_it(stack: &Stack) {
    let client = stack.client();
    let header = json!({"batch": {"defaults": {"kind": "echo"}}});
    let first = line(&json!({"ref": "0", "delay_seconds": 600}));
    let rest = (1..300).map(|n| line(&json!({"ref": n.to_string(), "after": [format!("ref:{}", n - 1)]})));
    let body = format!("{header}\n{first}{}", rest.collect::<String>());
    let batch = lines(client, None, body).await.expect(202).json();
    let own = batch["links"]["self"].as_str().expect("a link");
    assert_eq!(client.get(own).await.json()["counts"]["scheduled"], 300);
    let list =
        client.get(&format!("/v1/jobs?batch_id={}&limit=200", batch["id"].as_str().expect("an id"))).await.json();
    let second = list["items"].as_array().expect("a list")[199]["parents"]["jobs"][0].clone();
    client.post(&format!("/v1/jobs/{}/cancel", second.as_str().expect("an id")), &json!({})).await;
    // All that come behind it end; those before it wait.
    eventually("the rest of the chain is cancelled", async || {
        (client.get(own).await.json()["counts"]["cancelled"] == 201).then_some(())
    })
    .await;
    client.post(&format!("{own}/cancel"), &json!({})).await.expect(202);
    let over = finished(client, &batch).await;
    assert_eq!(over["counts"]["cancelled"], 300);
    assert_eq!(stack.verify(&verify(stack)).await.0, Some(0));
}

async fn parents_that_are_not_there_are_named(stack: &Stack) {
    let client = stack.client();
    let known = client.submit("echo", json!({})).await;
    let nobody = "01980000-0000-7000-8000-000000000000";
    let body = json!({"kind": "echo", "payload": {}, "after": [known, nobody]});
    let problem = client.post("/v1/jobs", &body).await.problem(422);
    assert_eq!(problem["errors"], json!([{"pointer": "/after/1", "detail": format!("there is no job {nobody}")}]));
    let named = json!({"kind": "echo", "payload": {}, "after": ["ref:a", "x"]});
    let problem = client.post("/v1/jobs", &named).await.problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/after/1");

    let mut body = line(&json!({"ref": "a", "after": [known]}));
    body += &line(&json!({"ref": "a"}));
    body += &line(&json!({"after": ["ref:b"], "ref": "c"}));
    body += &line(&json!({"after": [nobody, "ref:c"]}));
    body += &line(&json!({"after": ["ref:a"]}));
    let problem = lines(client, None, body.clone()).await.problem(422);
    let at = |error: &Value| (error["line"].clone(), error["pointer"].clone());
    let errors: Vec<_> = problem["errors"].as_array().expect("a list").iter().map(at).collect();
    let expected = [(2, "/ref"), (3, "/after/0"), (4, "/after/0"), (4, "/after/1")];
    assert_eq!(errors, expected.map(|(line, pointer)| (json!(line), json!(pointer))));
    // The good ones alone.
    let request = client.request(reqwest::Method::POST, "/v1/batches?partial=true");
    let request = request.header("content-type", "application/x-ndjson").body(body);
    let batch = client.send(request).await.expect(202).json();
    assert_eq!((&batch["total"], &batch["refused"]), (&json!(2), &json!(3)));
    assert_eq!(finished(client, &batch).await["counts"]["succeeded"], 2);
}

/// Workers are killed at any step of many chains: every link runs, after the one before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_break_no_chain() {
    let mut stack = StackBuilder::new(Backend::Services).workers(2).short_lease().start().await;
    let mut body = String::new();
    for chain in 0..20 {
        body += &line(&json!({"ref": format!("{chain}.0")}));
        for link in 1..10 {
            let (name, before) = (format!("{chain}.{link}"), format!("ref:{chain}.{}", link - 1));
            body += &line(&json!({"ref": name, "after": [before], "payload": {"sleep_seconds": 0.1}}));
        }
    }
    let batch = lines(stack.client(), None, body).await.expect(202).json();
    let own = batch["links"]["self"].as_str().expect("a link").to_owned();
    for (worker, ended) in [(0, 25), (1, 80)] {
        let client = stack.client().clone();
        eventually("some have ended", async || {
            let batch = client.get(&own).await.json();
            (batch["counts"]["succeeded"].as_u64()? >= ended).then_some(())
        })
        .await;
        stack.workers[worker].kill().await;
        stack.start_worker();
    }
    let over = finished(stack.client(), &batch).await;
    assert_eq!((&over["counts"]["succeeded"], &over["total"]), (&json!(200), &json!(200)), "{over:#}");
    assert_eq!(stack.verify(&[]).await.0, Some(0));
}
