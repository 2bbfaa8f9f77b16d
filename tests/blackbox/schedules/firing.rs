//! Firing, in both ways of running.

use offload_common::testing::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{at, finished, fires, jobs, make, pause, send, stack, until};
use crate::support::{Stack, on_both_backends};

on_both_backends! {
    a_schedule_submits_a_job_every_second
    a_schedule_submits_a_batch_every_second
    a_fire_goes_by_what_the_last_job_does
    a_fire_whose_key_is_taken_is_skipped
    a_schedule_is_paused_run_and_resumed
    changes_name_the_version_that_they_are_meant_for
    a_preview_shows_the_change_of_the_clocks
}

async fn a_schedule_submits_a_job_every_second(stack: &Stack) {
    let client = stack.client();
    let path = make(client, "every second", json!({"every_seconds": 1, "overlap": "allow"})).await;
    until(client, &path, "fired", 3).await;
    pause(client, &path).await;
    let submitted = jobs(client, &path).await;
    for job in &submitted {
        let done = client.succeeded(job["id"].as_str().expect("an id")).await;
        let fire_at = at(&done["fire_at"]);
        assert_eq!(done["result"]["value"], fire_at.timestamp().to_string());
        assert!(at(&done["created_at"]) >= fire_at, "not before its time: {done:#}");
    }
    let schedule = client.get(&path).await.expect(200).json();
    assert_eq!((&schedule["next_at"], &schedule["problem"]), (&Value::Null, &Value::Null), "{schedule:#}");
    client.send(client.request(Method::DELETE, &path)).await.expect(204);
    client.get(&path).await.problem(404);
    let job = client.job(submitted[0]["id"].as_str().expect("an id")).await;
    assert!(path.ends_with(job["schedule_id"].as_str().expect("an id")), "it outlives its schedule");
}

async fn a_schedule_submits_a_batch_every_second(stack: &Stack) {
    let client = stack.client();
    let batch = json!({
        "defaults": {"kind": "echo", "payload": {"value": "{{fire.unix}}"}},
        "jobs": [{}, {}, {"payload": {"value": "last"}}],
        "follow_up": {"kind": "echo", "payload": {"value": "after {{fire.unix}}"}},
    });
    let path =
        make(client, "batches", json!({"every_seconds": 1, "overlap": "queue", "job": null, "batch": batch})).await;
    let fired = until(client, &path, "fired", 3).await;
    pause(client, &path).await;
    for fire in fired.iter().filter(|fire| fire["outcome"] == "fired") {
        let batch = finished(client, fire).await;
        assert_eq!((&batch["total"], &batch["counts"]["succeeded"]), (&json!(3), &json!(3)), "{batch:#}");
        let unix = at(&fire["fire_at"]).timestamp().to_string();
        let jobs = client.get(&format!("/v1/jobs?batch_id={}", batch["id"].as_str().expect("an id"))).await.json();
        let mut values = Vec::new();
        for job in jobs["items"].as_array().expect("a list") {
            assert_eq!(job["fire_at"], fire["fire_at"], "{job:#}");
            values.push(client.job(job["id"].as_str().expect("an id")).await["result"]["value"].clone());
        }
        assert_eq!(values, [json!("last"), json!(unix), json!(unix)], "newest first");
        let after = client.succeeded(batch["follow_up_job"].as_str().expect("a job follows")).await;
        assert_eq!(after["result"]["value"], format!("after {unix}"));
    }
    let ran = client.post(&format!("{path}/run"), &json!({})).await.expect(202).json();
    assert_eq!(fires(client, &path).await.last().expect("a fire")["batch_id"], ran["id"]);
}

async fn a_fire_goes_by_what_the_last_job_does(stack: &Stack) {
    let client = stack.client();
    let long = json!({"kind": "echo", "payload": {"sleep_seconds": 600}});
    let of = |overlap: &str| json!({"every_seconds": 1, "overlap": overlap, "job": long});
    let skipping = make(client, "skip", of("skip")).await;
    let queueing = make(client, "queue", of("queue")).await;
    let cancelling = make(client, "cancel", of("cancel_previous")).await;
    let skipped = until(client, &skipping, "skipped", 2).await;
    let outcomes: Vec<_> = skipped.iter().map(|fire| (&fire["outcome"], &fire["reason"])).collect();
    assert_eq!(outcomes[..2], [(&json!("fired"), &Value::Null), (&json!("skipped"), &json!("overlap"))]);
    pause(client, &skipping).await;

    let waiting = until(client, &queueing, "waiting", 1).await;
    let (first, second) = (waiting[0]["job_id"].as_str().expect("a job"), &waiting[1]);
    client.post(&format!("/v1/jobs/{first}/cancel"), &json!({})).await.expect(202);
    eventually("the fire that waited is made", async || {
        let fires = fires(client, &queueing).await;
        (fires[1]["job_id"].is_string() && fires[1]["fire_at"] == second["fire_at"]).then_some(())
    })
    .await;
    pause(client, &queueing).await;

    let fired = until(client, &cancelling, "fired", 3).await;
    pause(client, &cancelling).await;
    for fire in &fired[..2] {
        let job = client.finished(fire["job_id"].as_str().expect("a job")).await;
        assert_eq!(job["state"], "cancelled", "{job:#}");
    }
}

async fn a_fire_whose_key_is_taken_is_skipped(stack: &Stack) {
    let client = stack.client();
    let job = json!({"kind": "echo", "payload": {"sleep_seconds": 600}, "unique_key": "the only one"});
    let held = client.post("/v1/jobs", &job).await.expect(202).json();
    let held = held["id"].as_str().expect("an id");
    let path = make(client, "keyed", json!({"every_seconds": 1, "overlap": "allow", "job": job})).await;
    let skipped = until(client, &path, "skipped", 2).await;
    for fire in &skipped {
        assert_eq!((&fire["reason"], &fire["job_id"]), (&json!("unique_key"), &Value::Null), "{fire:#}");
    }
    let problem = client.post(&format!("{path}/run"), &json!({})).await.problem(409);
    assert_eq!(problem["job_id"], held, "{problem:#}");
    client.post(&format!("/v1/jobs/{held}/cancel"), &json!({})).await;
    client.finished(held).await;
    let fired = until(client, &path, "fired", 1).await;
    pause(client, &path).await;
    let fired = fired.iter().find(|fire| fire["outcome"] == "fired").expect("it is there");
    assert_eq!(client.job(fired["job_id"].as_str().expect("a job")).await["unique_key"], "the only one");
    assert_eq!(jobs(client, &path).await.len(), 1, "it has the key now");
}

async fn a_schedule_is_paused_run_and_resumed(stack: &Stack) {
    let client = stack.client();
    let path = make(client, "by hand", json!({"cron": "0 0 1 1 *"})).await;
    pause(client, &path).await;
    let job = client.post(&format!("{path}/run"), &json!({})).await.expect(202).json();
    client.succeeded(job["id"].as_str().expect("an id")).await;
    let records = fires(client, &path).await;
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &json!("run_now")), "{records:#?}");
    let resumed = client.post(&format!("{path}/resume"), &json!({})).await.expect(200).json();
    assert!(resumed["next_at"].as_str().is_some_and(|at| at.contains("-01-01T00:00:00")), "{resumed:#}");
    assert_eq!(jobs(client, &path).await.len(), 1);
}

async fn changes_name_the_version_that_they_are_meant_for(stack: &Stack) {
    let client = stack.client();
    let path = make(client, "versions", json!({"cron": "@yearly"})).await;
    let first = client.get(&path).await.expect(200);
    let change = json!({"cron": "@monthly"});
    let second = send(client, Method::PATCH, &path, first.header("etag"), &change).await.expect(200);
    assert_eq!((&second.json()["cron"], second.header("etag")), (&json!("@monthly"), "\"2\""));
    for method in [Method::PATCH, Method::DELETE] {
        send(client, method, &path, first.header("etag"), &json!({"cron": "@daily"})).await.problem(412);
    }
    let problem = client
        .post(
            "/v1/schedules",
            &json!({"name": "versions", "cron": "@daily", "job":
        {"kind": "echo", "payload": {}}}),
        )
        .await
        .problem(409);
    assert!(path.ends_with(problem["id"].as_str().expect("an id")), "{problem:#}");
    let wrong = json!({"name": "x", "cron": "99 * * * *", "job": {"kind": "echo", "payload": {"sleep_seconds": "x"}}});
    let problem = client.post("/v1/schedules", &wrong).await.problem(422);
    let pointers: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/cron", "/job/payload/sleep_seconds"], "{problem:#}");
    send(client, Method::DELETE, &path, "\"2\"", &Value::Null).await.expect(204);
}

async fn a_preview_shows_the_change_of_the_clocks(stack: &Stack) {
    let client = stack.client();
    let path = make(client, "Berlin", json!({"cron": "30 2 * * *", "time_zone": "Europe/Berlin"})).await;
    let preview = |after: &str| format!("{path}/preview?count=2&after={after}");
    let spring = client.get(&preview("2028-03-25T12:00:00Z")).await.expect(200).json();
    assert_eq!(
        (&spring["fires"][0]["at"], &spring["fires"][0]["local"]),
        (&json!("2028-03-26T01:00:00.000000Z"), &json!("2028-03-26T03:00:00+02:00"))
    );
    assert!(spring["fires"][0]["note"].as_str().is_some_and(|note| note.contains("forward")), "{spring:#}");
    let autumn = client.get(&preview("2028-10-28T12:00:00Z")).await.expect(200).json();
    let times: Vec<_> = autumn["fires"].as_array().expect("a list").iter().map(|fire| &fire["at"]).collect();
    assert_eq!(times, ["2028-10-29T00:30:00.000000Z", "2028-10-30T01:30:00.000000Z"], "once: {autumn:#}");
    let all = client.get(&format!("{path}/preview?count=1000")).await.expect(200).json();
    assert_eq!(all["fires"].as_array().map(Vec::len), Some(1000));
}
