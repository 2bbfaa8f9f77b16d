//! `offload schedule` against an embedded server.

use serde_json::json;

use crate::program::Server;

#[test]
fn a_schedule_from_its_making_to_its_end() {
    let server = Server::dev();
    let create = ["schedule", "create", "nightly", "echo", r#"{"value": "{{fire.date}}"}"#, "--cron", "30 2 * * *"];
    let made = server.run(&[&create[..], &["--time-zone", "Europe/Berlin", "--overlap", "queue", "--json"]].concat());
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    let id = made.json()[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(made.json()[0]["overlap"], "queue");
    let again = server.run(&create);
    assert!(again.code == Some(1) && again.err.contains("(409)"), "{again:?}");

    let listed = server.run(&["schedule", "list"]);
    assert!(listed.out.starts_with("ID ") && listed.out.contains("30 2 * * *"), "{}", listed.out);
    let preview = server.run(&["schedule", "preview", "nightly", "--count", "400"]);
    assert_eq!(preview.out.lines().count(), 401);
    assert!(preview.out.contains("the clocks go forward over 02:30"), "{}", preview.out);

    let run = server.run(&["schedule", "run", "nightly", "--json"]);
    let job = run.json()[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(server.run(&["wait", &job]).code, Some(0));
    let shown = server.run(&["schedule", "show", &id]);
    for part in ["nightly", "Europe/Berlin", "run_now", &job] {
        assert!(shown.out.contains(part), "{part} is not in {}", shown.out);
    }

    assert!(server.run(&["schedule", "pause", "nightly"]).out.contains("next paused"));
    assert!(!server.run(&["schedule", "resume", &id]).out.contains("paused"));
    assert_eq!(server.run(&["schedule", "delete", "nightly"]).out, format!("{id}  deleted\n"));
    let gone = server.run(&["schedule", "show", "nightly"]);
    assert!(gone.code == Some(2) && gone.err.contains("there is no schedule called \"nightly\""), "{gone:?}");
    assert_eq!(server.run(&["list", "--json"]).json()[0]["schedule_id"], json!(id), "its job stays");
}

#[test]
fn a_schedule_of_batches_is_made_from_a_file_and_run() {
    let server = Server::dev();
    let header = r#"{"batch": {"defaults": {"kind": "echo", "tags": ["nightly"]}}}"#;
    let jobs = (0..3).map(|n| format!(r#"{{"payload": {{"value": [{n}, "{{{{fire.date}}}}"]}}}}"#));
    std::fs::write(
        server.folder.path().join("jobs.ndjson"),
        [header.to_owned()].into_iter().chain(jobs).collect::<Vec<_>>().join("\n"),
    )
    .expect("written");
    let create = ["schedule", "create", "nightly", "--cron", "30 2 * * *"];
    let made = server.run(&[&create[..], &["--batch", "jobs.ndjson"]].concat());
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    assert!(server.run(&["schedule", "show", "nightly"]).out.contains("a batch of 3"));

    let run = server.run(&["schedule", "run", "nightly"]);
    let id = run.out.strip_suffix("  3 jobs\n").expect("the batch").to_owned();
    assert_eq!(server.run(&["wait", "--batch", &id]).code, Some(0));
    let run = server.run(&["schedule", "run", "nightly", "--json"]);
    assert_eq!(run.json()[0]["total"], json!(3));
    assert_eq!(server.run(&["list", "--tag", "nightly", "--json"]).json().len(), 6);

    std::fs::write(server.folder.path().join("bad.ndjson"), "{\"kind\": \"echo\"}\n{").expect("written");
    let bad = server.run(&[&create[..], &["--batch", "bad.ndjson"]].concat());
    assert!(bad.code == Some(1) && bad.err.contains("in the file bad.ndjson: line 2 is not JSON"), "{bad:?}");
    let both = server.run(&[&create[..], &["echo", "--batch", "jobs.ndjson"]].concat());
    assert_eq!(both.code, Some(2), "{both:?}");
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_with_every_pointer() {
    let server = Server::dev();
    let arguments = ["schedule", "create", "x", "echo", r#"{"sleep_seconds": "long"}"#, "--cron", "99 * * * *"];
    let wrong = server.run(&[&arguments[..], &["--time-zone", "Berlin"]].concat());
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    for pointer in ["/cron", "/time_zone", "/job/payload/sleep_seconds"] {
        assert!(wrong.err.contains(pointer), "{}", wrong.err);
    }
    assert_eq!(server.run(&["schedule", "create", "x", "echo"]).code, Some(2), "neither a pattern nor an interval");
}
