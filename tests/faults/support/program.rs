//! The program that the suite runs: Offload with kinds of its own, an example of this package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where it is. It is built first unless it is as new as its sources: `cargo test --test faults` alone builds no examples.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_offload")).parent().expect("it is in a folder");
        let program = folder.join("examples/offload-faults");
        if !is_current(&program) {
            build(folder.file_name().and_then(|name| name.to_str()).expect("a name"));
        }
        program
    });
    &PROGRAM
}

/// Whether it is there, and newer than everything that cargo noted it to be made of.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let Some(made) = modified(program) else { return false };
    let Ok(note) = fs::read_to_string(program.with_extension("d")) else { return false };
    let sources = note.split_once(": ").map_or("", |(_, sources)| sources);
    !sources.is_empty()
        && sources.split_whitespace().all(|source| modified(Path::new(source)).is_some_and(|at| at <= made))
}

fn build(folder: &str) {
    let profile = if folder == "debug" { "dev" } else { folder };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--example", "offload-faults", "--profile", profile]);
    let built = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo starts");
    assert!(built.success(), "the program of the fault suite does not build");
}
