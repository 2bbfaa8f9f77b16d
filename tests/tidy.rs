//! Style as a test: what a reviewer would have to look for in every change.

use std::fs;
use std::path::PathBuf;

/// Files longer than this hold more than one thing.
const MAX_LINES: usize = 500;

/// Loops that wait for a condition, and pause between two looks at it; faults that last; and a job that takes its time.
const MAY_SLEEP: [&str; 4] = [
    "common/src/testing/eventually.rs",
    "common/tests/broker_rabbitmq/faults.rs",
    "tests/faults/program/ledger.rs",
    "tests/faults/support/timeline.rs",
];

/// Where the names of backends may appear besides their own modules, the wiring and tests.
const BACKENDS: [(&str, &str); 6] = [
    ("PostgresStore", "common/src/store/postgres"),
    ("PostgresAudit", "common/src/store/postgres"),
    ("SqliteStore", "common/src/store/sqlite"),
    ("SqliteAudit", "common/src/store/sqlite"),
    ("RabbitBroker", "common/src/broker/rabbitmq"),
    ("InProcessBroker", "common/src/broker/in_process"),
];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether it is a test, or a test's support.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.contains("/testing/")
    }

    /// The part that ships: what comes before the tests at the bottom.
    fn shipped(&self) -> &str {
        if self.is_test() { "" } else { self.text.split("#[cfg(test)]").next().unwrap_or_default() }
    }

    /// The part that tests.
    fn tested(&self) -> &str {
        if self.is_test() { &self.text } else { &self.text[self.shipped().len()..] }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the repository, except this one, which has to spell out what it looks for.
fn sources() -> Vec<Source> {
    let mut folders: Vec<_> =
        ["src", "tests", "api", "bench", "worker", "common"].map(|folder| root().join(folder)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            if path.is_dir() && !name.ends_with("/target") {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests/tidy.rs" {
                sources.push(Source { path: name, text: fs::read_to_string(path).expect("UTF-8") });
            }
        }
    }
    assert!(sources.len() > 50, "the sources were found");
    sources
}

/// Fails with every finding at once.
fn nothing_found(what: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<_> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{what}:\n  {}", findings.join("\n  "));
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|source| source.path.contains("src/") && !source.is_test());
    let long = long.map(|source| (source.text.lines().count(), source.path)).filter(|(lines, _)| *lines > MAX_LINES);
    nothing_found("more than one thing in a file", long.map(|(lines, path)| format!("{path}: {lines} lines")));
}

#[test]
fn files_say_what_they_are() {
    let silent = sources().into_iter().filter(|source| !source.text.starts_with("//!"));
    nothing_found("no `//!` line at the top", silent.map(|source| source.path));
}

#[test]
fn nothing_is_left_undone() {
    let marks = ["TODO", "FIXME", "XXX", "unimplemented!(", "todo!(", "dbg!("];
    let found = sources().into_iter().flat_map(|source| {
        let found = marks.into_iter().filter(move |mark| source.text.contains(mark));
        found.map(|mark| format!("{}: {mark}", source.path)).collect::<Vec<_>>()
    });
    nothing_found("unfinished", found);
}

#[test]
fn tests_neither_skip_nor_sleep() {
    let found = sources().into_iter().flat_map(|source| {
        let marks = ["#[ignore", "sleep(", "sleep_until("].into_iter().filter(|mark| source.tested().contains(mark));
        let allowed = |mark: &&str| *mark != "#[ignore" && MAY_SLEEP.contains(&source.path.as_str());
        marks.filter(|mark| !allowed(mark)).map(|mark| format!("{}: {mark}", source.path)).collect::<Vec<_>>()
    });
    nothing_found("tests wait for conditions, and none is skipped", found);
}

#[test]
fn only_the_clock_reads_the_clock() {
    let found = sources().into_iter().filter(|source| source.path != "common/src/clock.rs").flat_map(|source| {
        let marks = ["Instant::now()", "SystemTime::now()", "Utc::now()", "clippy::disallowed_methods"];
        let found = marks.into_iter().filter(|mark| source.text.contains(mark));
        found.map(|mark| format!("{}: {mark}", source.path)).collect::<Vec<_>>()
    });
    nothing_found("time has one source, common/src/clock.rs", found);
}

#[test]
fn api_and_worker_do_not_know_each_other() {
    for (one, other) in [("api", "offload-worker"), ("worker", "offload-api")] {
        let manifest = fs::read_to_string(root().join(one).join("Cargo.toml")).expect("readable");
        assert!(!manifest.contains(other), "{one} depends on {other}");
        for source in sources().iter().filter(|source| source.path.starts_with(&format!("{one}/"))) {
            assert!(!source.text.contains(&other.replace('-', "_")), "{} uses {other}", source.path);
        }
    }
}

#[test]
fn only_the_wiring_names_backends() {
    let found = sources().into_iter().filter(|source| source.path != "src/wiring.rs").flat_map(|source| {
        let strays = BACKENDS
            .into_iter()
            .filter(|(name, home)| source.shipped().contains(name) && !source.path.starts_with(home));
        strays.map(|(name, _)| format!("{}: {name}", source.path)).collect::<Vec<_>>()
    });
    nothing_found("backends are chosen in src/wiring.rs", found);
}

/// A suite that is not a module of its crate would never run.
#[test]
fn every_suite_is_run() {
    let modules = sources().into_iter().filter(|source| source.path.contains("tests/"));
    let orphans = modules.filter(|source| {
        let path = root().join(&source.path);
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        let (folder, name) = match name {
            // The root of a crate, and what cargo finds by itself.
            "main" => return false,
            _ if path.parent().is_some_and(|folder| folder.ends_with("tests")) => return false,
            "mod" => {
                let folder = path.parent().expect("a folder");
                (folder.parent().expect("a folder"), folder.file_name().and_then(|name| name.to_str()).expect("a name"))
            }
            name => (path.parent().expect("a folder"), name),
        };
        // Its parent is `main.rs` or `mod.rs` beside it, or, right below `tests/`, any crate there.
        let beside = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("readable").path());
        let parents: String = beside.filter_map(|parent| fs::read_to_string(parent).ok()).collect();
        !parents.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
    });
    nothing_found("not a module of any crate", orphans.map(|source| source.path));
}
