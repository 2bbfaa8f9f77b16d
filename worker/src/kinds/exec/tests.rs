//! Real programs, mostly of the shell.

use std::path::Path;
use std::time::Duration;

use offload_common::job::transition::{Failure, Retry};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::*;

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn kind(toml: &str) -> Exec {
    Exec::new("test.kind", &config(toml)).expect("a valid kind")
}

fn config(toml: &str) -> ExecKindConfig {
    serde_json::from_value(serde_json::from_str(toml).expect("JSON")).expect("a configuration")
}

fn shell(script: &str) -> Exec {
    kind(&json!({"command": ["sh", "-c", script]}).to_string())
}

fn job() -> Run {
    Run { job: "the-job".to_owned(), attempt: 2, traceparent: Some("00-1-2-01".to_owned()), parents: None }
}

async fn run(kind: &Exec, payload: &str) -> Result<String, Failure> {
    listen(kind, payload).await.0
}

async fn listen(kind: &Exec, payload: &str) -> (Result<String, Failure>, Vec<Said>) {
    let mut said = Vec::new();
    let outcome = kind.run_once(&job(), payload, |what| said.push(what)).await;
    let outcome = outcome.map(|json| json.get().to_owned()).map_err(|error| match error {
        JobError::Failed(failure) => failure,
        other => panic!("{other:?}"),
    });
    (outcome, said)
}

/// A named pipe for programs to open: it ends for its reader when every process that has it open is gone.
async fn lifeline(directory: &Path) -> pipe::Receiver {
    let path = directory.join("lifeline");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
    assert!(made.success());
    pipe::OpenOptions::new().open_receiver(path).expect("opens")
}

/// Waits until so many bytes have come.
async fn hear(lifeline: &mut pipe::Receiver, bytes: usize) {
    let mut heard = Vec::new();
    let hearing = async {
        while heard.len() < bytes {
            lifeline.readable().await.expect("a pipe");
            // Readiness may be spurious, and there is no end before somebody has opened it.
            let _ = lifeline.try_read_buf(&mut heard);
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("it is heard of");
}

/// Waits until everybody who had it open is gone.
async fn gone(lifeline: &mut pipe::Receiver) {
    let mut rest = Vec::new();
    let end = lifeline.read_to_end(&mut rest);
    tokio::time::timeout(PATIENCE, end).await.expect("everybody is gone").expect("reads");
}

#[tokio::test]
async fn the_payload_goes_in_and_the_result_comes_out() {
    let cat = kind(r#"{"command": ["cat"]}"#);
    assert_eq!(run(&cat, "{\n  \"a\": 1.50\n}").await, Ok("{   \"a\": 1.50 }".to_owned()));
    assert_eq!(run(&shell("cat > /dev/null"), "{}").await, Ok("null".to_owned()));
    let large = format!("\"{}\"", "x".repeat(2_000_000));
    assert_eq!(run(&cat, &large).await, Ok(large));
}

#[tokio::test]
async fn a_program_need_not_read_its_payload() {
    let large = format!("\"{}\"", "x".repeat(2_000_000));
    assert_eq!(run(&shell("echo 1"), &large).await, Ok("1".to_owned()));
    assert_eq!(run(&shell("exec <&-; echo 1"), &large).await, Ok("1".to_owned()));
}

#[tokio::test]
async fn standard_error_is_log_and_progress() {
    let (outcome, said) = listen(&shell("echo one >&2; echo progress 0.5 half >&2; printf two >&2"), "{}").await;
    assert_eq!(outcome, Ok("null".to_owned()));
    let line = |text: &str| Said::Line(text.to_owned());
    assert_eq!(said, [line("one"), Said::Progress(0.5, "half".to_owned()), line("two")]);
}

#[tokio::test]
async fn the_exit_status_decides() {
    for (script, code, retry) in [
        ("echo busy >&2; exit 75", "exit_75", Retry::Backoff),
        ("echo broken >&2; exit 3", "exit_status", Retry::Never),
        ("kill -9 $$", "exit_status", Retry::Never),
        ("echo not json", "invalid_output", Retry::Never),
    ] {
        let failure = run(&shell(script), "{}").await.expect_err("fails");
        assert_eq!((failure.code.as_str(), failure.retry), (code, retry), "{script}");
    }
    let failure = run(&shell("echo why >&2; exit 3"), "{}").await.expect_err("fails");
    assert_eq!(failure.message, "sh exited with status 3: why");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let absent = kind(r#"{"command": ["/nowhere/to/be/found"], "directory": "/"}"#);
    let failure = run(&absent, "{}").await.expect_err("fails");
    assert_eq!((failure.code.as_str(), failure.retry), ("cannot_start", Retry::Never));
    assert!(failure.message.contains("/nowhere/to/be/found: No such file"), "{}", failure.message);
    let no_program = run(&kind(r#"{"command": ["/etc/passwd"]}"#), "{}").await.expect_err("fails");
    assert_eq!((no_program.code.as_str(), no_program.retry), ("cannot_start", Retry::Never));
}

#[tokio::test]
async fn the_environment_is_clean() {
    let command = ["sh", "-c", "exec env >&2"];
    let environment = json!({"TOKEN": "secret", "OFFLOAD_JOB_ID": "no"});
    let (_, said) = listen(&kind(&json!({"command": command, "environment": environment}).to_string()), "{}").await;
    for line in ["TOKEN=secret", "OFFLOAD_JOB_ID=the-job", "OFFLOAD_ATTEMPT=2", "TRACEPARENT=00-1-2-01"] {
        assert!(said.contains(&Said::Line(line.to_owned())), "{line} in {said:?}");
    }
    // The shell adds a few of its own.
    let known = ["HOME", "LANG", "OFFLOAD_ATTEMPT", "OFFLOAD_JOB_ID", "PATH", "TOKEN", "TRACEPARENT"];
    let shell = ["OLDPWD", "PWD", "SHLVL", "_"];
    for said in said {
        let Said::Line(line) = said else { panic!("{said:?}") };
        let name = line.split('=').next().unwrap_or_default();
        assert!(known.contains(&name) || shell.contains(&name), "{line}");
    }
}

#[tokio::test]
async fn the_directory_is_the_configured_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().canonicalize().expect("exists");
    let config = json!({"command": ["sh", "-c", "printf '\"%s\"' \"$(pwd -P)\""], "directory": path});
    assert_eq!(run(&kind(&config.to_string()), "{}").await, Ok(json!(path).to_string()));
}

#[tokio::test]
async fn output_and_memory_are_bounded() {
    let kind = |limits: Value, script: &str| {
        let mut config = json!({"command": ["sh", "-c", script]});
        config.as_object_mut().expect("an object").extend(limits.as_object().expect("an object").clone());
        kind(&config.to_string())
    };
    let exact = kind(json!({"max_output_bytes": 4}), "printf 1234");
    assert_eq!(run(&exact, "{}").await, Ok("1234".to_owned()));
    let endless = kind(json!({"max_output_bytes": 4}), "while echo 1; do :; done");
    assert_eq!(run(&endless, "{}").await.expect_err("too much").code, "output_too_large");
    let limits = kind(json!({"max_memory_bytes": 512 * 1024 * 1024}), "echo [$(ulimit -v), $(ulimit -c)]");
    assert_eq!(run(&limits, "{}").await, Ok("[524288, 0]".to_owned()));
}

/// Plays two parts: run by itself, it runs itself once more as the worker that is killed.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_killed_worker_takes_its_program_along() {
    const DIRECTORY: &str = "OFFLOAD_TEST_EXEC_DIRECTORY";
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let script = "exec 3>lifeline; echo started >&3; exec sleep 1000";
        let config = json!({"command": ["sh", "-c", script], "directory": Path::new(&directory)});
        let _ = run(&kind(&config.to_string()), "{}").await;
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut lifeline = lifeline(directory.path()).await;
    let mut worker = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "kinds::exec::tests::a_killed_worker_takes_its_program_along"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("starts");
    hear(&mut lifeline, "started\n".len()).await;
    worker.kill().await.expect("killed");
    gone(&mut lifeline).await;
}

#[tokio::test]
async fn dropped_it_is_killed_with_its_children() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut lifeline = lifeline(directory.path()).await;
    let script = "exec 3>lifeline; (trap '' TERM; echo child >&3; sleep 1000) & trap '' TERM; echo leader >&3; wait";
    let config = json!({"command": ["sh", "-c", script], "directory": directory.path()});
    let kind = kind(&config.to_string());
    let running = tokio::spawn(async move { run(&kind, "{}").await });
    hear(&mut lifeline, "child\nleader\n".len()).await;
    running.abort();
    gone(&mut lifeline).await;
}

#[tokio::test]
async fn children_that_outlive_the_program_are_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut lifeline = lifeline(directory.path()).await;
    let script = "exec 3>lifeline; (echo child >&3; sleep 1000) & read -r _; echo 7";
    let config = json!({"command": ["sh", "-c", script], "directory": directory.path()});
    assert_eq!(run(&kind(&config.to_string()), "{}").await, Ok("7".to_owned()));
    gone(&mut lifeline).await;
}

#[tokio::test]
async fn what_outlives_the_group_does_not_hold_the_job_up() {
    // A descendant in a session of its own keeps the pipes open; it ends by itself.
    let escape = shell("setsid sleep 15 & echo 7");
    let outcome = tokio::time::timeout(Duration::from_secs(10), run(&escape, "{}")).await;
    assert_eq!(outcome.expect("ends"), Ok("7".to_owned()));
}

#[test]
fn bad_configurations_are_told() {
    let error = |toml: &str| Exec::new("test.kind", &config(toml)).expect_err("bad").to_string();
    assert!(error(r#"{"command": []}"#).contains("command is empty"));
    assert!(error(r#"{"command": [""]}"#).contains("command is empty"));
    assert!(error(r#"{"command": ["a"], "payload_schema": {"type": "nothing"}}"#).contains("payload schema"));
    assert!(error(r#"{"command": ["a"], "result_schema": {"type": "nothing"}}"#).contains("result_schema"));
    assert!(error(r#"{"command": ["a"], "environment": {"A=B": ""}}"#).contains("A=B"));
}

#[test]
fn the_configuration_becomes_the_spec() {
    let spec = kind(r#"{"command": ["a"]}"#).spec;
    assert_eq!((spec.queue.as_str(), spec.max_attempts, spec.timeout_seconds), ("default", 5, 3600));
    assert_eq!((spec.effects, spec.payload_schema), (Effects::Unsafe, json!({"type": "object"})));
    let full = r#"{"command": ["a"], "description": "D", "queue": "q", "max_attempts": 2, "timeout_seconds": 9,
        "repeatable": true, "payload_schema": {"type": "string"}, "result_schema": {"type": "number"}}"#;
    let spec = kind(full).spec;
    assert_eq!((spec.queue.as_str(), spec.max_attempts, spec.timeout_seconds), ("q", 2, 9));
    assert_eq!((spec.effects, spec.description.as_str()), (Effects::Repeatable, "D"));
    assert_eq!((spec.payload_schema, spec.result_schema), (json!({"type": "string"}), json!({"type": "number"})));
}
