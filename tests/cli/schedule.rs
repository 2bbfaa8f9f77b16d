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
