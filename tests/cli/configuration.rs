//! Configuration from outside: sources, their order, and errors that lead to the place.

use std::fs;

use tempfile::TempDir;

use crate::program::{Ran, offload, run};

struct Place(TempDir);

impl Place {
    fn with(file: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("offload.toml"), file).expect("written");
        Self(folder)
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = offload(self.0.path(), arguments);
        command.envs(variables.iter().copied());
        run(command, "")
    }
}

#[test]
fn what_is_in_force_says_where_it_comes_from_and_hides_secrets() {
    let place = Place::with("[worker]\nslots = 3\n[kinds.k]\ncommand = ['x']\nenvironment = { TOKEN = 'hush' }\n");
    let ran =
        place.run(&["config"], &[("DATABASE_URL", "postgres://u:hush@h/d"), ("OFFLOAD_WORKER__QUEUES", "default")]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(!ran.out.contains("hush"), "{}", ran.out);
    for expected in
        ["# worker.slots: offload.toml:2", "# worker.queues: OFFLOAD_WORKER__QUEUES", "slots = 3", "u:REDACTED@h"]
    {
        assert!(ran.out.contains(expected), "{expected} is not in {}", ran.out);
    }
}

#[test]
fn the_defaults_are_a_file_to_start_from() {
    let defaults = Place::with("").run(&["config", "--default"], &[]);
    assert!(defaults.out.starts_with("# Offload's configuration"), "{}", defaults.out);
    let again = Place::with(&defaults.out).run(&["config"], &[]);
    assert_eq!(again.code, Some(0), "{again:?}");
}

#[test]
fn a_file_can_be_named_before_and_after_the_subcommand_and_by_a_variable() {
    let place = Place::with("not read");
    fs::write(place.0.path().join("mine.toml"), "[worker]\nslots = 7\n").expect("written");
    for ran in [
        place.run(&["--config", "mine.toml", "config"], &[]),
        place.run(&["config", "--config", "mine.toml"], &[]),
        place.run(&["config"], &[("OFFLOAD_CONFIG", "mine.toml")]),
    ] {
        assert!(ran.out.contains("# worker.slots: mine.toml:2"), "{ran:?}");
    }
}

#[test]
fn what_is_wrong_is_a_usage_error_that_names_it() {
    type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 8] = [
        ("[worker]\nslot = 1", &["config"], &[], "offload.toml:2: worker.slot: unknown key `slot`"),
        ("[worker]\nslots = 0", &["dev"], &[], "offload.toml:2: worker.slots: must be between 1"),
        ("", &["config"], &[("OFFLOAD_WORKER__SLOTS", "x")], "OFFLOAD_WORKER__SLOTS: worker.slots:"),
        ("", &["config"], &[("OFFLOAD_NONSENSE__X", "1")], "OFFLOAD_NONSENSE__X: nonsense: unknown key"),
        ("", &["dev", "--listen", "here"], &[], "--listen: server.listen: invalid socket address"),
        ("", &["config", "--config", "missing.toml"], &[], "the configuration file missing.toml cannot be read"),
        ("", &["api"], &[("AMQP_URL", "amqp://h")], "DATABASE_URL is not set"),
        ("", &["worker"], &[("DATABASE_URL", "postgres://h/d")], "AMQP_URL is not set"),
    ];
    for (file, arguments, variables, expected) in cases {
        let ran = Place::with(file).run(arguments, variables);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(expected), "{expected} is not in {}", ran.err);
    }
}

#[test]
fn a_kind_that_cannot_be_ends_the_start() {
    let place = Place::with("[kinds.bad]\ncommand = ['x']\npayload_schema = { type = 'nothing' }\n");
    let ran = place.run(&["openapi"], &[]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("`bad`"), "{}", ran.err);
}

#[test]
fn migrate_gives_up_on_a_database_that_stays_away() {
    // Nothing listens on port 1.
    let ran = Place::with("").run(&["migrate", "--wait", "0"], &[("DATABASE_URL", "postgres://127.0.0.1:1/d")]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("the database is not available"), "{}", ran.err);
}

#[test]
fn what_no_process_would_start_with_is_not_shown_as_good() {
    for (file, named) in [
        ("[kinds.echo]\ncommand = ['true']\n", "kinds.\"echo\""),
        ("[kinds.x]\ncommand = ['true']\npayload_schema = { type = 'bogus' }\n", "kinds.\"x\""),
        ("[log]\nfilter = '=[['\n", "log.filter"),
    ] {
        let ran = Place::with(file).run(&["config"], &[]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert_eq!(ran.err.matches(named).count(), 1, "{}", ran.err);
    }
}
