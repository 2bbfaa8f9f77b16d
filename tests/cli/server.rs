//! The embedded server from outside: what it says, and how it ends.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;

use crate::program::{Server, offload, run};

#[test]
fn it_says_where_it_listens_and_serves_there() {
    let server = Server::dev();
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    let ran = server.run(&["health"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "ready\n"));
    assert!(server.folder.path().join(".offload/offload.db").exists());
}

#[test]
fn it_does_not_look_at_the_addresses_of_services() {
    let server = Server::dev_with(&[], &[("DATABASE_URL", "mysql://elsewhere/x"), ("AMQP_URL", "nonsense")]);
    assert_eq!(server.run(&["submit", "echo", "{}", "--wait"]).code, Some(0));
}

#[test]
fn jobs_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let first = Server::dev_with(&["--data", &data], &[]);
    let id = first.submit(&["echo", r#"{"value": 7}"#, "--wait"]);
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0));
    let second = Server::dev_with(&["--data", &data], &[]);
    let ran = second.run(&["status", &id, "--json"]);
    assert_eq!(ran.json()[0]["result"]["value"], 7, "{ran:?}");
}

#[test]
fn a_taken_port_is_an_error_that_says_what_to_do() {
    let server = Server::dev();
    let address = server.url.trim_start_matches("http://");
    let folder = tempfile::tempdir().expect("a folder");
    let ran = run(offload(folder.path(), &["dev", "--listen", address]), "");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("is taken by another program") && ran.err.contains("--listen"), "{}", ran.err);
}

#[test]
fn the_first_signal_lets_running_jobs_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let server = Server::dev_with(&["--data", &data], &[]);
    let id = server.submit(&["echo", r#"{"value": 1, "sleep_seconds": 2}"#]);
    server.until_state(&id, "running");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    let after = Server::dev_with(&["--data", &data], &[]);
    let job = &after.run(&["status", &id, "--json"]).json()[0];
    assert_eq!((&job["state"], &job["attempt"]), (&"succeeded".into(), &1.into()), "{job}");
}

#[test]
fn a_second_signal_hands_running_jobs_back_without_spending_an_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().display().to_string();
    let server = Server::dev_with(&["--data", &data], &[]);
    let id = server.submit(&["echo", r#"{"sleep_seconds": 3600}"#]);
    server.until_state(&id, "running");
    server.signal(Signal::INT);
    server.until_refusing();
    server.signal(Signal::INT);
    assert_eq!(server.ended().code(), Some(3));
    let after = Server::dev_with(&["--data", &data], &[]);
    after.until_state(&id, "running");
    let job = &after.run(&["status", &id, "--json"]).json()[0];
    assert_eq!(job["attempt"], 1, "{job}");
    assert_eq!(after.run(&["cancel", &id]).code, Some(0));
    assert_eq!(after.run(&["wait", &id]).code, Some(11));
}

#[test]
fn api_and_worker_start_without_their_services_and_end_when_told() {
    // Nothing listens on port 1.
    let services = [("DATABASE_URL", "postgres://127.0.0.1:1/d"), ("AMQP_URL", "amqp://127.0.0.1:1/%2f")];
    for role in ["api", "worker"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = offload(folder.path(), &[role, "--listen", "127.0.0.1:0"]);
        command.envs(services).env("OFFLOAD_LOG", "off");
        let server = Server::start(command, folder);
        let ran = server.run(&["health"]);
        assert_eq!(ran.code, Some(69), "{role}: {ran:?}");
        assert!(ran.err.contains("(503)"), "{role}: {}", ran.err);
        server.signal(Signal::TERM);
        assert_eq!(server.ended().code(), Some(0), "{role}");
    }
}

#[test]
fn the_document_needs_no_server_and_knows_configured_kinds() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("offload.toml"), "[kinds.\"my.kind\"]\ncommand = ['x']\n").expect("written");
    let mut command = offload(folder.path(), &["openapi"]);
    command.stderr(Stdio::inherit());
    let document: serde_json::Value = serde_json::from_str(&run(command, "").out).expect("JSON");
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"));
    assert!(document.to_string().contains("my.kind"));
}
