//! The client subcommands against an embedded server.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::program::{Server, offload, run};

#[test]
fn a_job_from_submission_to_result() {
    let server = Server::dev();
    let ran = server.run(&["submit", "echo", r#"{"value": {"n": 12345678901234567890}}"#, "--wait", "--json"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    // As the server wrote it: numbers keep every digit.
    assert!(ran.out.contains("12345678901234567890"), "{}", ran.out);
    let id = ran.json()[0]["id"].as_str().expect("an id").to_owned();

    let status = server.run(&["status", &id]);
    assert!(status.out.contains("succeeded") && status.out.contains("result"), "{}", status.out);
    let listed = server.run(&["list", "--kind", "echo", "--state", "succeeded", "--json"]);
    assert_eq!(listed.json().iter().map(|job| &job["id"]).collect::<Vec<_>>(), [&json!(id)]);
    let table = server.run(&["list"]);
    assert!(table.out.starts_with("ID ") && table.out.contains(&id), "{}", table.out);
}

#[test]
fn payloads_come_from_files_and_from_standard_input() {
    let server = Server::dev();
    fs::write(server.folder.path().join("payload.json"), r#"{"value": "file"}"#).expect("written");
    let file = server.run(&["submit", "echo", "@payload.json", "--wait", "--json"]);
    assert_eq!(file.json()[0]["result"]["value"], "file", "{file:?}");
    let piped = run(server.client(&["submit", "echo", "-", "--wait", "--json"]), r#"{"value": "pipe"}"#);
    assert_eq!(piped.json()[0]["result"]["value"], "pipe", "{piped:?}");
    let wrong = server.run(&["submit", "echo", "{"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.err.contains("the payload is not JSON"), "{}", wrong.err);
}

#[test]
fn files_are_uploaded_into_the_payload() {
    let server = Server::dev();
    fs::write(server.folder.path().join("rows.csv"), "name,age\nAda,36\nAlan,41\n").expect("written");
    let arguments = ["submit", "table.import", r#"{"table": "people", "format": "csv", "create": true}"#];
    let ran = server.run(&[&arguments[..], &["--file", "source=rows.csv", "--wait", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()[0]["result"]["rows"], 2);
}

#[test]
fn exit_codes_say_what_became_of_a_job() {
    let server = Server::dev();
    let failing = server.run(&["submit", "echo", r#"{"fail_attempts": 1}"#, "--max-attempts", "1", "--wait"]);
    assert_eq!(failing.code, Some(10), "{failing:?}");
    let id = server.submit(&["echo", "{}", "--delay", "3600"]);
    assert_eq!(server.run(&["wait", &id, "--timeout", "1"]).code, Some(12));
    let cancelled = server.run(&["cancel", &id]);
    assert_eq!((cancelled.code, cancelled.out), (Some(0), format!("{id}  cancelled\n")));
    assert_eq!(server.run(&["wait", &id]).code, Some(11));
}

#[test]
fn a_running_job_is_cancelled() {
    let server = Server::dev();
    let id = server.submit(&["echo", r#"{"sleep_seconds": 3600}"#]);
    server.until_state(&id, "running");
    assert_eq!(server.run(&["cancel", &id]).code, Some(0));
    assert_eq!(server.run(&["wait", &id]).code, Some(11));
}

#[test]
fn problems_are_told_with_every_pointer() {
    let server = Server::dev();
    let ran = server.run(&["submit", "echo", r#"{"sleep_seconds": "long"}"#]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("(422)") && ran.err.contains("\n  /payload/sleep_seconds: "), "{}", ran.err);
    let unknown = server.run(&["submit", "no.such.kind"]);
    assert!(unknown.err.contains("/kind") && unknown.err.contains("image.transform"), "{}", unknown.err);
    let missing = server.run(&["status", "01890000-0000-7000-8000-000000000000"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
}

#[test]
fn the_same_key_gives_the_same_job() {
    let server = Server::dev();
    let submit = || server.submit(&["echo", "{}", "--idempotency-key", "once"]);
    assert_eq!(submit(), submit());
    assert_eq!(server.run(&["list", "--json"]).json().len(), 1);
}

#[test]
fn kinds_are_listed() {
    let ran = Server::dev().run(&["kinds"]);
    for kind in ["echo", "http.call", "image.transform", "table.import"] {
        assert!(ran.out.lines().any(|line| line.starts_with(kind)), "{kind} is not in {}", ran.out);
    }
}

#[test]
fn a_server_that_is_away_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nothing listens on port 1.
    for arguments in [&["health"][..], &["list"], &["submit", "echo"]] {
        let ran = run(offload(folder.path(), &[arguments, &["--server", "http://127.0.0.1:1"]].concat()), "");
        assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{ran:?}");
        assert!(ran.err.contains("cannot be reached"), "{}", ran.err);
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child =
        offload(folder.path(), &["config", "--default"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the binary starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut told).expect("UTF-8");
    assert_eq!(told, "");
}

#[test]
fn a_file_of_jobs_is_a_batch() {
    let server = Server::dev();
    let line = |n: usize, more: &str| format!("{{\"kind\": \"echo\", \"payload\": {{\"value\": {n}{more}}}}}\n");
    let good: String = (0..20).map(|n| line(n, "")).collect();
    fs::write(server.folder.path().join("jobs.ndjson"), &good).expect("written");
    let arguments = ["submit", "--batch", "jobs.ndjson", "--idempotency-key", "night"];
    let ran = server.run(&[&arguments[..], &["--wait", "--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let batch = &ran.json()[0];
    assert_eq!((&batch["total"], &batch["counts"]["succeeded"]), (&json!(20), &json!(20)));
    let id = batch["id"].as_str().expect("an id").to_owned();
    let again = server.run(&arguments);
    assert_eq!((again.code, again.out), (Some(0), format!("{id}  20 jobs\n")), "the key names the same batch");
    assert!(server.run(&["batch", "show", &id]).out.contains("20 of 20 ended"));
    assert!(server.run(&["batch", "list"]).out.contains(&id));

    let bad = format!("{good}{}", line(1, ", \"colour\": 1"));
    fs::write(server.folder.path().join("bad.ndjson"), bad).expect("written");
    let refused = server.run(&["submit", "--batch", "bad.ndjson"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("line 21"), "{}", refused.err);
    let partial = server.run(&["submit", "--batch", "bad.ndjson", "--partial", "--json"]);
    assert_eq!((partial.code, &partial.json()[0]["refused"]), (Some(0), &json!(1)));

    fs::write(
        server.folder.path().join("fails.ndjson"),
        line(1, ", \"fail_attempts\": 9").replace("\"payload\"", "\"max_attempts\": 1, \"payload\""),
    )
    .expect("written");
    let failed = server.run(&["submit", "--batch", "fails.ndjson", "--wait"]);
    assert_eq!(failed.code, Some(10), "{failed:?}");
    assert!(failed.out.contains("1 failed"), "{}", failed.out);
    assert_eq!(server.run(&["submit", "--batch", "jobs.ndjson", "echo"]).code, Some(2));
    assert_eq!(server.run(&["wait"]).code, Some(2));
}
