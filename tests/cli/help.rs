//! Help texts are part of the interface: snapshots, so that a change is seen.

use crate::program::{offload, run};

fn help(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = offload(folder.path(), arguments);
    command.env("COLUMNS", "100");
    let ran = run(command, "");
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
    ran.out
}

#[test]
fn the_front_page() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn every_subcommand() {
    let commands = [
        "dev", "api", "worker", "migrate", "verify", "demo", "submit", "status", "wait", "cancel", "list", "kinds",
        "openapi", "config", "health",
    ];
    let pages = commands.map(|command| format!("## offload {command}\n\n{}", help(&[command, "--help"])));
    insta::assert_snapshot!(pages.join("\n"));
}

#[test]
fn every_subcommand_of_schedule() {
    let commands = ["--help", "create", "list", "show", "preview", "run", "pause", "resume", "delete"];
    let pages = commands.map(|command| {
        let arguments =
            if command == "--help" { vec!["schedule", "--help"] } else { vec!["schedule", command, "--help"] };
        format!("## offload schedule {command}\n\n{}", help(&arguments))
    });
    insta::assert_snapshot!(pages.join("\n"));
}

#[test]
fn what_is_not_understood_is_a_usage_error() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in [&["nonsense"][..], &["dev", "--lisen", "x"], &["status", "no-id"], &["wait"]] {
        let ran = run(offload(folder.path(), wrong), "");
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{wrong:?}");
    }
}
